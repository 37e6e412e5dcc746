//! Reviews over a connection such as the API server makes: TLS, our own root, its name for us.

use super::*;
use crate::ca::{root::Root, serving};
use pki::SystemClock;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, time::SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

const NAME: &str = "istiod.istio-system.svc";

struct Served {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    _process: chassis::run::Process,
    _state: tempfile::TempDir,
}

async fn served() -> Served {
    let state = tempfile::tempdir().expect("a folder");
    let root = Root::open(state.path(), "cluster.local", Duration::from_secs(3600), SystemTime::now());
    let root = Arc::new(root.expect("a root"));
    let names = serving::hostnames("istio-system", "default", "cluster.local");
    let tls = serving::tls_config(root.clone(), names, Arc::new(SystemClock));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let process = chassis::run::Process::detached();
    task::spawn("webhook", serve(listener, tls, process.signal.clone())).detach();

    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root.issuer().roots_pem().as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS 1.3");
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Served { address, client: Arc::new(client), _process: process, _state: state }
}

impl Served {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let name = ServerName::try_from(NAME).expect("a name");
        TlsConnector::from(self.client.clone()).connect(name, stream).await.expect("it is believed")
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // It may have answered before it read everything.
        let _sent = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn post(&self, kind: &str, body: &str) -> String {
        let length = body.len();
        self.ask(&format!(
            "POST /validate?timeout=10s HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await
    }
}

/// As an API server of Kubernetes 1.34 sends it.
fn review(spec: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{
        "uid":"0df28fbd-5f5f-11e8-bc74-36e6bb280816",
        "kind":{{"group":"security.istio.io","version":"v1","kind":"AuthorizationPolicy"}},
        "resource":{{"group":"security.istio.io","version":"v1","resource":"authorizationpolicies"}},
        "requestKind":{{"group":"security.istio.io","version":"v1","kind":"AuthorizationPolicy"}},
        "name":"p","namespace":"shop","operation":"CREATE","userInfo":{{"username":"kubernetes-admin"}},
        "object":{{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy",
        "metadata":{{"name":"p","namespace":"shop","uid":"1","managedFields":[{{"manager":"kubectl"}}]}},"spec":{spec}}},
        "oldObject":null,"dryRun":false,"options":{{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}}}}"#
    )
}

#[tokio::test]
async fn the_api_server_is_answered_over_tls() {
    let served = served().await;
    let good = served.post("application/json", &review("{}")).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.contains("\"allowed\": true"), "{good}");
    let bad = served.post("application/json", &review(r#"{"rules":[{"from":[{"source":{"ipBlocks":["x"]}}]}]}"#)).await;
    assert!(bad.starts_with("HTTP/1.1 200") && bad.contains("\"allowed\": false"), "{bad}");
    assert!(bad.contains("spec.rules[0].from[0].source.ipBlocks[0]: "), "{bad}");
    assert!(bad.contains("0df28fbd-5f5f-11e8-bc74-36e6bb280816"), "{bad}");
    let ready = served.ask(&format!("GET /ready HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n")).await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
}

#[tokio::test]
async fn what_is_no_review_is_turned_away() {
    let served = served().await;
    for (kind, body, status) in [
        ("application/json", "{}".to_owned(), "400"),
        ("application/json", "not json".to_owned(), "400"),
        ("text/plain", review("{}"), "415"),
        ("application/json", " ".repeat(limits::WEBHOOK_BODY_BYTES_MAX + 1), "413"),
    ] {
        let answer = served.post(kind, &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{kind} {}: {answer}", body.len());
    }
    let other = served.ask("GET /inject HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    let method = served.ask("GET /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(method.starts_with("HTTP/1.1 405"), "{method}");
}
