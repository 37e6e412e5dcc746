//! A caller of a certificate authority over its real RPC, for those who may not know the protocol.

use mesh::Identity;
use pki::{
    ca_client::{Ask, CaClient},
    cache::{Authority, CertificateError},
    certificate::WorkloadCertificate,
    control_plane::{ControlPlane, Source},
    tls,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// How long the certificates are to live that nobody uses.
const TTL: Duration = Duration::from_secs(600);

/// Where the authority is, and how one sees that it is the right one.
#[derive(Clone, Debug)]
pub struct Place {
    /// `https://host:port`.
    pub address: String,
    /// Its root certificates, in PEM.
    pub roots: String,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A certificate of this identity, whose key and chain are good.
    Certificate(Identity),
    /// A refusal: the code of the RPC, a colon and the message.
    Refused(String),
    /// Neither.
    Other(String),
}

/// Somebody with a token.
#[derive(Debug)]
pub struct Caller {
    client: CaClient,
}

impl Caller {
    /// One that asks for others, as node proxies do; an empty token is none.
    pub fn for_others(place: &Place, token: &str, cluster: &str) -> Result<Self, String> {
        Self::new(place, token, cluster, Ask::ForOthers)
    }

    /// One that asks for itself.
    pub fn for_itself(place: &Place, token: &str, cluster: &str) -> Result<Self, String> {
        Self::new(place, token, cluster, Ask::ForItself)
    }

    fn new(place: &Place, token: &str, cluster: &str, ask: Ask) -> Result<Self, String> {
        let control_plane = ControlPlane {
            address: place.address.parse().map_err(|_| format!("{:?} is no address", place.address))?,
            roots: Source::Literal(place.roots.clone()),
            token: (!token.is_empty()).then(|| Source::Literal(token.to_owned())),
            cluster_id: cluster.into(),
            alternative_hostname: Some("istiod.istio-system.svc".into()),
            headers: vec![],
        };
        let client = CaClient::new(control_plane, ask, TTL).map_err(|error| error.to_string())?;
        Ok(Self { client })
    }

    /// Asks for a certificate of an identity.
    pub async fn ask(&self, identity: &Identity) -> Answer {
        match self.client.certify(identity).await {
            Ok(certificate) => Answer::Certificate(certificate.identity().clone()),
            Err(CertificateError::Refused { message, .. }) => Answer::Refused(message),
            Err(error) => Answer::Other(error.to_string()),
        }
    }

    /// Asks for a certificate of an identity, to be that.
    pub async fn credential(&self, identity: &Identity) -> Result<Credential, String> {
        self.client.certify(identity).await.map(Credential).map_err(|error| error.to_string())
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Credential(WorkloadCertificate);

impl Credential {
    /// Makes mutual TLS with a proxy that must have one of these identities.
    pub async fn connect(
        &self,
        stream: TcpStream,
        expected: &[Identity],
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let connected = tls::connect(stream, tls::client_config(&self.0, expected)).await;
        Ok(connected.map_err(io::Error::other)?.0)
    }
}
