//! Asks the mesh's authority for certificates, and believes no answer that is not what was asked.

use crate::{
    cache::{Authority, CertificateError, Certifying},
    certificate::{CertificateRefused, WorkloadCertificate},
    control_plane::{ControlPlane, ControlPlaneError},
    csr,
    limits::CHAIN_BYTES_MAX,
};
use mesh::Identity;
use prost_types::{Struct, Value, value::Kind};
use proto::citadel::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use std::{collections::BTreeMap, time::Duration};
use tonic::{Code, Extensions, Request, Status, transport::Channel};

/// The metadata key under which a node proxy says for whom it asks.
pub(crate) const IMPERSONATED: &str = "ImpersonatedIdentity";

/// For whom a process asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A node proxy asks for the pods of its node.
    ForOthers,
    /// A process asks for itself: its token says who that is.
    ForItself,
}

/// The certificate RPC as an [`Authority`].
#[derive(Debug)]
pub struct CaClient {
    control_plane: ControlPlane,
    client: IstioCertificateServiceClient<Channel>,
    ask: Ask,
    ttl: Duration,
}

impl CaClient {
    /// A client that asks for certificates that live `ttl`. Connects when first used.
    pub fn new(control_plane: ControlPlane, ask: Ask, ttl: Duration) -> Result<Self, ControlPlaneError> {
        let client = IstioCertificateServiceClient::new(control_plane.channel()?)
            .max_decoding_message_size(CHAIN_BYTES_MAX + 4096);
        Ok(Self { control_plane, client, ask, ttl })
    }

    async fn ask(&self, identity: &Identity) -> Result<WorkloadCertificate, CertificateError> {
        let cannot = |reason: &dyn ToString| CertificateError::CannotAsk(reason.to_string());
        let made = csr::request(identity).map_err(|e| cannot(&e))?;
        let metadata = self.control_plane.metadata().map_err(|e| cannot(&e))?;
        let message = IstioCertificateRequest {
            csr: made.csr,
            validity_duration: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: (self.ask == Ask::ForOthers).then(|| impersonating(identity)),
        };
        let request = Request::from_parts(metadata, Extensions::default(), message);
        let answer = self.client.clone().create_certificate(request).await;
        let answer = answer.map_err(|status| refused(identity, &status))?.into_inner();
        let certificate = WorkloadCertificate::new(made.key, &answer.cert_chain)?;
        if certificate.identity() == identity {
            Ok(certificate)
        } else {
            let (asked, given) = (identity.clone(), certificate.identity().clone());
            Err(CertificateRefused::OtherIdentity { asked, given }.into())
        }
    }
}

impl Authority for CaClient {
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a> {
        Box::pin(self.ask(identity))
    }
}

fn impersonating(identity: &Identity) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(identity.to_string())) };
    Struct { fields: BTreeMap::from([(IMPERSONATED.to_owned(), value)]) }
}

/// An answer is a refusal; no answer is an authority that is away.
fn refused(identity: &Identity, status: &Status) -> CertificateError {
    let message = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
            CertificateError::Unreachable(describe(status))
        }
        Code::DeadlineExceeded => CertificateError::TimedOut,
        _ => CertificateError::Refused { identity: identity.clone(), message },
    }
}

/// The status and what lies under it: tonic says "transport error" and keeps the reason inside.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
