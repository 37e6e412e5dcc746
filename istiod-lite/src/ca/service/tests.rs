//! The RPC behind the transport: every status, and that nothing else is said.

use super::*;
use crate::{
    authn::{Authenticating, AuthenticationError, PodRef},
    ca::rate::BURST,
    facts::PodRecord,
};
use mesh::Identity;
use pki::{SystemClock, chain, csr, limits::CSR_BYTES_MAX};
use std::time::SystemTime;
use tonic::{Code, metadata::MetadataMap};

/// Believes `<namespace>/<account>/<pod>`; the uid is the pod's name. Never answers `slow`.
struct Believing;

impl Authenticator for Believing {
    fn authenticate<'a>(&'a self, bearer: &'a str, _: &'a str) -> Authenticating<'a> {
        Box::pin(async move {
            if bearer == "slow" {
                std::future::pending::<()>().await;
            }
            let parts: Vec<_> = bearer.split('/').collect();
            let [namespace, account, pod] = parts[..] else {
                return Err(AuthenticationError::BadToken("not as this test writes it".into()));
            };
            let identity = Identity::new("mesh", namespace, account).unwrap();
            Ok(Caller { identity, pod: Some(PodRef { name: pod.into(), uid: pod.into() }) })
        })
    }
}

/// One node with a node proxy and `shop/web`.
struct OneNode;

impl PodLookup for OneNode {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        let there = (namespace, name) == ("istio-system", "z1");
        there.then(|| PodRecord { uid: name.into(), service_account: "ztunnel".into(), node: "n1".into() })
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        (node, namespace, service_account) == ("n1", "shop", "web")
    }
}

const PROXY: &str = "istio-system/ztunnel/z1";
const WEB: &str = "spiffe://mesh/ns/shop/sa/web";

struct Door {
    authority: CertificateAuthority,
    registry: Registry,
    _dir: tempfile::TempDir,
}

fn door() -> Door {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path(), "mesh", Duration::from_secs(3600), SystemTime::now()).unwrap();
    let mut registry = Registry::default();
    let authority = CertificateAuthority::new(
        Arc::new(root),
        Arc::new(Believing),
        Policy::default(),
        Arc::new(OneNode),
        Lifetimes::default(),
        Arc::new(SystemClock),
        Metrics::register(&mut registry),
    );
    Door { authority, registry, _dir: dir }
}

fn metadata(bearer: &[&str]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for value in bearer {
        metadata.append("authorization", value.parse().unwrap());
    }
    metadata
}

fn request(bearer: &str, impersonated: Option<&str>) -> CertificateRequest {
    CertificateRequest {
        metadata: metadata(&[&format!("Bearer {bearer}")]),
        csr: csr::request(&WEB.parse().unwrap()).unwrap().csr,
        ttl_seconds: 3600,
        impersonated: impersonated.map(str::to_owned),
    }
}

impl Door {
    async fn ask(&self, request: CertificateRequest) -> Result<String, (Code, String)> {
        let elements = self.authority.certify(request).await;
        let elements = elements.map_err(|status| (status.code(), status.message().to_owned()))?;
        Ok(chain::identity(&chain::parse_pem(&elements[0]).unwrap()[0].der).unwrap().to_string())
    }

    fn counted(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.split(' ').next_back().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn each_failure_has_its_status_and_tells_no_more() {
    let door = door();
    let not_believed = Err((Code::Unauthenticated, "request authenticate failure".to_owned()));
    let not_allowed = Err((Code::Unauthenticated, "request impersonation authentication failure".to_owned()));
    let with = |bearers: &[&str]| CertificateRequest { metadata: metadata(bearers), ..request(PROXY, Some(WEB)) };
    assert_eq!(door.ask(request(PROXY, Some(WEB))).await, Ok(WEB.into()));
    assert_eq!(door.ask(request("shop/web/w", None)).await, Ok(WEB.into()));
    for bearers in [
        &[][..],
        &[PROXY],
        &["Bearer "],
        &["Bearer"],
        &["Basic eDp5"],
        &["bearer istio-system/ztunnel/z1"],
        &["Bearer garbage"],
        &["Bearer istio-system/ztunnel/z1", "Bearer shop/web/w"],
    ] {
        assert_eq!(door.ask(with(bearers)).await, not_believed, "{bearers:?}");
    }
    for requested in
        ["", "garbage", "spiffe://evil/ns/shop/sa/web", "spiffe://mesh/ns/shop/sa/db", "spiffe://mesh/ns/shop/sa/web/"]
    {
        assert_eq!(door.ask(request(PROXY, Some(requested))).await, not_allowed, "{requested}");
    }
    assert_eq!(door.ask(request("shop/web/w", Some(WEB))).await, not_allowed);
    assert_eq!(door.counted("citadel_server_success_cert_issuance_count_total"), "2");
    assert_eq!(door.counted("citadel_server_authentication_failure_count_total"), "14");
}

#[tokio::test]
async fn a_bad_request_is_the_callers_fault_and_is_said() {
    let door = door();
    let good = || request(PROXY, Some(WEB));
    for (what, csr) in [
        ("empty", String::new()),
        ("no PEM", "CSR".into()),
        ("a certificate", door.authority.root.issuer().certificate_pem().to_owned()),
        ("huge", "A".repeat(CSR_BYTES_MAX + 1)),
        ("huge PEM", good().csr.replace("-----END", &format!("{}\n-----END", "A".repeat(CSR_BYTES_MAX)))),
    ] {
        let (code, _) = door.ask(CertificateRequest { csr, ..good() }).await.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{what}");
    }
    assert_eq!(door.counted("citadel_server_csr_parsing_err_count_total"), "5");
    let (code, message) = door.ask(CertificateRequest { ttl_seconds: 91 * 24 * 3600, ..good() }).await.unwrap_err();
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("lifetime"), "{message}");
    assert_eq!(door.counted("citadel_server_csr_sign_err_count_total{error=\"TTL_ERROR\"}"), "1");
}

#[tokio::test]
async fn a_caller_that_runs_wild_is_slowed_and_harms_nobody_else() {
    let door = door();
    let wild = || CertificateRequest { csr: String::new(), ..request(PROXY, Some(WEB)) };
    let mut slowed = 0;
    for _ in 0..BURST + 100 {
        slowed += u32::from(door.ask(wild()).await.unwrap_err().0 == Code::ResourceExhausted);
    }
    assert!(slowed > 0, "a burst is bounded");
    assert_eq!(door.ask(request("shop/web/w", None)).await, Ok(WEB.into()));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_turn_is_told_so() {
    let door = door();
    let mut stuck = Vec::new();
    for _ in 0..CONCURRENT_MAX {
        let mut asking = Box::pin(door.authority.certify(request("slow", None)));
        assert!(futures_util::poll!(&mut asking).is_pending());
        stuck.push(asking);
    }
    let refused = door.ask(request("shop/web/w", None)).await;
    assert_eq!(refused.unwrap_err().0, Code::ResourceExhausted);
    stuck.pop();
    assert_eq!(door.ask(request("shop/web/w", None)).await, Ok(WEB.into()));
}
