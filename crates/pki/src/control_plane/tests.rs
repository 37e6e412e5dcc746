//! The channel against a TLS server on the loopback interface.
#![expect(clippy::disallowed_methods, reason = "a test sees its tasks end")]

use super::*;
use crate::{
    issue::{Issuer, ROOT_LIFETIME},
    tls,
};
use rustls::{server::ResolvesServerCertUsingSni, sign::CertifiedKey};
use std::{fs, time::SystemTime};
use tokio::net::TcpListener;

const NAME: &str = "istiod.istio-system.svc";

fn issuer() -> Issuer {
    Issuer::self_signed("mesh", ROOT_LIFETIME, SystemTime::now()).unwrap()
}

fn serving(issuer: &Issuer) -> CertifiedKey {
    issuer.issue_serving(&[NAME.to_owned()], Duration::from_secs(3600), SystemTime::now()).unwrap()
}

/// A server that shows the certificates it is told to, one for each connection.
async fn serve(shown: Vec<CertifiedKey>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for key in shown {
            let mut resolver = ResolvesServerCertUsingSni::new();
            resolver.add(NAME, key).unwrap();
            let config = Arc::new(tls::serving_config(Arc::new(resolver)));
            let (tcp, _) = listener.accept().await.unwrap();
            let _ = tokio_rustls::TlsAcceptor::from(config).accept(tcp).await;
        }
    });
    port
}

fn to(port: u16, roots: Source, name: &str) -> ControlPlane {
    ControlPlane {
        address: format!("https://127.0.0.1:{port}").parse().unwrap(),
        roots,
        token: None,
        cluster_id: "Kubernetes".into(),
        alternative_hostname: Some(name.into()),
        headers: Vec::new(),
    }
}

#[tokio::test]
async fn the_server_must_have_the_right_name_and_the_right_root() {
    let (ours, theirs) = (issuer(), issuer());
    let cases = [
        ("right", &ours, NAME, true),
        ("another root", &theirs, NAME, false),
        ("another name", &ours, "istiod.evil.svc", false),
    ];
    for (what, trusted, name, good) in cases {
        let port = serve(vec![serving(&ours)]).await;
        let to = to(port, Source::Literal(trusted.roots_pem().to_owned()), name);
        let connected = Connector::new(&to).unwrap().connect().await;
        assert_eq!(connected.is_ok(), good, "{what}: {:?}", connected.err());
    }
}

#[tokio::test]
async fn a_replaced_root_file_counts_from_the_next_connection_and_a_broken_one_does_not() {
    let (old, new) = (issuer(), issuer());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root-cert.pem");
    fs::write(&file, old.roots_pem()).unwrap();
    let port = serve(vec![serving(&old), serving(&new), serving(&new), serving(&new), serving(&old)]).await;
    let connector = Connector::new(&to(port, Source::File(file.clone()), NAME)).unwrap();
    let connects = async || connector.connect().await.is_ok();
    assert!(connects().await);
    assert!(!connects().await, "the new server, the old root");
    fs::write(&file, new.roots_pem()).unwrap();
    assert!(connects().await);
    fs::write(&file, "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    assert!(connects().await, "the roots of the last connection stay in force");
    assert!(!connects().await, "and only those");
}

#[test]
fn the_token_is_read_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let mut to = to(1, Source::Literal(String::new()), NAME);
    to.token = Some(Source::File(file.clone()));
    to.headers = vec![("x-tenant".into(), "blue".into())];
    assert!(matches!(to.metadata(), Err(ControlPlaneError::Unreadable { .. })));
    for token in ["one", "two"] {
        fs::write(&file, format!("{token}\n")).unwrap();
        let metadata = to.metadata().unwrap();
        assert_eq!(metadata.get("authorization").unwrap(), &format!("Bearer {token}"));
        assert_eq!(metadata.get("clusterid").unwrap(), "Kubernetes");
        assert_eq!(metadata.get("x-tenant").unwrap(), "blue");
        assert!(!format!("{metadata:?}").contains(token), "a token is never printed");
    }
    fs::write(&file, "to\u{0}ken").unwrap();
    assert!(matches!(to.metadata(), Err(ControlPlaneError::Header(_))));
}

#[test]
fn an_address_without_tls_host_or_port_is_refused() {
    for address in ["http://istiod:15012", "istiod:15012", "https://istiod", "/path"] {
        let mut to = to(1, Source::Literal(String::new()), NAME);
        to.address = address.parse().unwrap();
        assert!(matches!(to.channel(), Err(ControlPlaneError::Address(_))), "{address}");
    }
}

#[test]
fn roots_are_a_file_a_text_or_those_of_the_machine() {
    assert_eq!(Source::of_roots("/a/b.pem".into()), Source::File("/a/b.pem".into()));
    assert_eq!(Source::of_roots("-----BEGIN".into()), Source::Literal("-----BEGIN".into()));
    assert_eq!(Source::of_roots("SYSTEM".into()), Source::System);
    // Nobody has a token of that name by accident, and a token is never the machine's.
    assert_eq!(Source::of("SYSTEM".into()), Source::Literal("SYSTEM".into()));
}

#[tokio::test]
async fn the_roots_of_the_machine_do_not_vouch_for_a_mesh_of_its_own() {
    let issuer = issuer();
    let port = serve(vec![serving(&issuer)]).await;
    let connector = Connector::new(&to(port, Source::System, NAME)).unwrap();
    match connector.connect().await {
        // A machine without roots says so, one with roots does not know ours.
        Err(ControlPlaneError::Roots(reason)) => assert!(reason.contains("ca-certificates"), "{reason}"),
        Err(ControlPlaneError::Handshake(error)) => assert!(error.to_string().contains("UnknownIssuer"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_the_address_is_asked_again() {
    let began = tokio::time::Instant::now();
    let asked = std::cell::Cell::new(0);
    let attempt = || {
        asked.set(asked.get() + 1);
        let vanished = asked.get() < 3;
        async move {
            if vanished {
                std::future::pending::<()>().await;
            }
            Ok("another one")
        }
    };
    assert_eq!(dial(attempt).await.unwrap(), "another one");
    assert_eq!((asked.get(), began.elapsed()), (3, 2 * DIAL_PATIENCE));
    let refused = || async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)) };
    assert_eq!(dial(refused).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "an answer is an answer");
}
