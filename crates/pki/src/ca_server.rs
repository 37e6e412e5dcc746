//! The server's end of the certificate RPC, in our own words, so that the control plane never
//! names a wire type.

use crate::{ca_client::IMPERSONATED, limits::CSR_BYTES_MAX};
use prost_types::value::Kind;
use proto::citadel::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
};
use std::{future::Future, pin::Pin, sync::Arc};
use tonic::{Request, Response, Status, metadata::MetadataMap};

/// One request for a certificate, as it came in: nothing of it is checked.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// The gRPC metadata: who asks.
    pub metadata: MetadataMap,
    /// PEM of a PKCS#10 request.
    pub csr: String,
    /// How long the certificate is to live; 0 or less: the default.
    pub ttl_seconds: i64,
    /// For whom, if not for the caller: what stood under `ImpersonatedIdentity`, whatever it was.
    pub impersonated: Option<String>,
}

/// A future of [`Certify`].
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, Status>> + Send + 'a>>;

/// Answers requests for certificates.
pub trait Certify: Send + Sync + 'static {
    /// The PEM elements of the answer, leaf first and roots last, or the status to answer with.
    fn certify(&self, request: CertificateRequest) -> Answering<'_>;
}

/// What serves the RPC `istio.v1.auth.IstioCertificateService`; give it to a tonic router.
pub type CertificateService = IstioCertificateServiceServer<Served>;

/// Longest message that is read: the request itself is capped on its own, this leaves room for the
/// metadata around it.
const MESSAGE_BYTES_MAX: usize = CSR_BYTES_MAX * 2;

/// The RPC, answered by `certify`.
pub fn service(certify: Arc<dyn Certify>) -> CertificateService {
    IstioCertificateServiceServer::new(Served(certify)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A [`Certify`] behind the generated trait.
pub struct Served(Arc<dyn Certify>);

#[tonic::async_trait]
impl IstioCertificateService for Served {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let impersonated = impersonated(&message);
        let IstioCertificateRequest { csr, validity_duration: ttl_seconds, .. } = message;
        let cert_chain = self.0.certify(CertificateRequest { metadata, csr, ttl_seconds, impersonated }).await?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// Present but not a text is not the same as absent: it becomes an empty text, which is nobody.
fn impersonated(message: &IstioCertificateRequest) -> Option<String> {
    let value = message.metadata.as_ref()?.fields.get(IMPERSONATED)?;
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => Some(String::new()),
    }
}
