//! Real handshakes over a pipe in memory, with good and with bad certificates at the other end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod forge;

use forge::{Ca, DAY, Leaf, honest, honest_at, root};
use mesh::Identity;
use pki::{
    WorkloadCertificate,
    clock::SettableClock,
    revocation::Revocations,
    tls::{self, ClientEnd, HandshakeError, ServerEnd},
    verify::PeerRefused,
};
use rcgen::{BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme,
    client::{ResolvesClientCert, danger},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const WEB: &str = "spiffe://mesh/ns/shop/sa/web";
const CLIENT: &str = "spiffe://mesh/ns/shop/sa/client";

type Accepted = Result<(tls::ServerStream<DuplexStream>, pki::Peer), HandshakeError>;
type Connected = Result<(tls::ClientStream<DuplexStream>, pki::Peer), HandshakeError>;

// In each of these a side that fails drops its end, which ends the other.

async fn shake(server: Arc<ServerEnd>, client: Arc<ClientEnd>) -> (Accepted, Connected) {
    let (near, far) = duplex(64 * 1024);
    tokio::join!(tls::accept(far, server), tls::connect(near, client))
}

/// Our server and any client.
async fn accepts(server: Arc<ServerEnd>, client: rustls::ClientConfig) -> Accepted {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("web.shop.svc").unwrap();
    let client = async { tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near).await };
    tokio::join!(tls::accept(far, server), client).0
}

/// Our client and any server.
async fn connects(server: rustls::ServerConfig, client: Arc<ClientEnd>) -> Connected {
    let (near, far) = duplex(64 * 1024);
    let server = async { tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far).await };
    tokio::join!(tls::connect(near, client), server).0
}

fn id(uri: &str) -> Identity {
    uri.parse().unwrap()
}

/// A client that shows whatever it is told to, and believes everybody.
#[derive(Debug)]
struct Reckless(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Reckless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ResolvesServerCert for Reckless {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

impl danger::ServerCertVerifier for Reckless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<danger::ServerCertVerified, rustls::Error> {
        Ok(danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn reckless_client(shows: Option<Arc<CertifiedKey>>, provider: CryptoProvider) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Reckless(None)))
        .with_client_cert_resolver(Arc::new(Reckless(shows)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn reckless_server(shows: Arc<CertifiedKey>) -> rustls::ServerConfig {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Reckless(Some(shows))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Seen {
    Taken,
    NoCertificate,
    TooLong,
    Expired,
    NotYetValid,
    UnknownRoot,
    Revoked,
    Untrusted,
    Purpose,
    Name,
    TrustDomain,
    Unexpected,
    Protocol,
}

fn seen<T>(result: &Result<T, HandshakeError>) -> Seen {
    let Err(error) = result else { return Seen::Taken };
    match error {
        HandshakeError::NoCertificate => Seen::NoCertificate,
        HandshakeError::Protocol(_) => Seen::Protocol,
        HandshakeError::Refused(refused) => match refused {
            PeerRefused::ChainTooLong(_) => Seen::TooLong,
            PeerRefused::Expired => Seen::Expired,
            PeerRefused::NotYetValid => Seen::NotYetValid,
            PeerRefused::UnknownRoot => Seen::UnknownRoot,
            PeerRefused::Revoked => Seen::Revoked,
            PeerRefused::Untrusted(_) => Seen::Untrusted,
            PeerRefused::Purpose(_) => Seen::Purpose,
            PeerRefused::Name(_) => Seen::Name,
            PeerRefused::TrustDomain { .. } => Seen::TrustDomain,
            PeerRefused::Unexpected { .. } => Seen::Unexpected,
        },
        other => panic!("an unforeseen failure: {other}"),
    }
}

#[tokio::test]
async fn only_an_honest_certificate_is_believed_at_either_end() {
    let mesh = root("mesh");
    let ca = Ca::of(&mesh);
    let stranger = Ca::of(&root("mesh"));
    let middle = ca.below("middle", IsCa::Ca(BasicConstraints::Unconstrained));
    let no_ca = ca.below("no ca", IsCa::ExplicitNoCa);
    let narrow = ca.below("narrow", IsCa::Ca(BasicConstraints::Constrained(0)));
    let under_narrow = narrow.below("under narrow", IsCa::Ca(BasicConstraints::Unconstrained));
    let long = ca.chain_of(20);
    let deep: Vec<&Ca> = long.iter().rev().collect();
    let seven: Vec<&Ca> = long[..7].iter().rev().collect();
    let six: Vec<&Ca> = long[..6].iter().rev().collect();
    let soon = forge::date(SystemTime::now() + DAY / 2);
    let lately = forge::date(SystemTime::now() - DAY / 2);
    let good = || Leaf::good(WEB);
    let names = |names: &[SanType]| {
        let names = names.to_vec();
        good().with(|p| p.subject_alt_names = names).shown(&ca, &[])
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let purposes = |purposes: &[ExtendedKeyUsagePurpose]| {
        let purposes = purposes.to_vec();
        good().with(|p| p.extended_key_usages = purposes).shown(&ca, &[])
    };
    let stolen = {
        let theirs = good().shown(&ca, &[]);
        forge::certified(theirs.cert.clone(), &KeyPair::generate().unwrap())
    };
    let unknown_critical = good().with(|p| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    });
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    use Seen::*;
    // What is shown, what we say to it as a server, and what as a client.
    let table = [
        ("an honest certificate", Some(good().shown(&ca, &[])), Taken, Taken),
        ("the root sent along", Some(good().shown(&ca, &[&ca])), Taken, Taken),
        ("an intermediate sent along", Some(good().shown(&middle, &[&middle])), Taken, Taken),
        ("six intermediates", Some(good().shown(&long[5], &six)), Taken, Taken),
        ("seven intermediates", Some(good().shown(&long[6], &seven)), Untrusted, Untrusted),
        ("twenty intermediates", Some(good().shown(&long[19], &deep)), TooLong, TooLong),
        ("an intermediate left out", Some(good().shown(&middle, &[])), UnknownRoot, UnknownRoot),
        ("no certificate", None, NoCertificate, Protocol),
        ("another root of the same name", Some(good().shown(&stranger, &[&stranger])), UnknownRoot, UnknownRoot),
        ("self-signed", Some(good().self_signed()), UnknownRoot, UnknownRoot),
        ("signed by a leaf", Some(good().shown(&no_ca, &[&no_ca])), Untrusted, Untrusted),
        (
            "below a CA that may have none below",
            Some(good().shown(&under_narrow, &[&under_narrow, &narrow])),
            Untrusted,
            Untrusted,
        ),
        (
            "a CA as a leaf",
            Some(good().with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).shown(&ca, &[])),
            Untrusted,
            Untrusted,
        ),
        ("an unknown critical extension", Some(unknown_critical.shown(&ca, &[])), Untrusted, Untrusted),
        ("expired", Some(good().with(|p| p.not_after = lately).shown(&ca, &[])), Expired, Expired),
        ("not yet valid", Some(good().with(|p| p.not_before = soon).shown(&ca, &[])), NotYetValid, NotYetValid),
        ("only for servers", Some(purposes(&[ServerAuth])), Untrusted, Taken),
        ("only for clients", Some(purposes(&[ClientAuth])), Taken, Untrusted),
        ("for no stated purpose", Some(purposes(&[])), Purpose, Purpose),
        ("for any purpose", Some(purposes(&[Any])), Untrusted, Untrusted),
        ("no name", Some(good().with(|p| p.subject_alt_names.clear()).shown(&ca, &[])), Name, Name),
        ("a host name", Some(names(&[dns("web.shop.svc")])), Name, Name),
        ("a host name that looks like an identity", Some(names(&[dns(WEB)])), Name, Name),
        ("two identities", Some(names(&[uri(WEB), uri(CLIENT)])), Name, Name),
        ("the same identity twice", Some(names(&[uri(WEB), uri(WEB)])), Name, Name),
        ("an identity and a host name", Some(names(&[uri(WEB), dns("web.shop.svc")])), Name, Name),
        ("an identity and an address", Some(names(&[uri(WEB), SanType::IpAddress([10, 0, 0, 1].into())])), Name, Name),
        ("an email", Some(names(&[SanType::Rfc822Name("web@shop".try_into().unwrap())])), Name, Name),
        ("a URI of another kind", Some(names(&[uri("https://mesh/ns/shop/sa/web")])), Name, Name),
        ("an identity with a path behind it", Some(names(&[uri("spiffe://mesh/ns/shop/sa/web/x")])), Name, Name),
        ("an identity with a slash behind it", Some(names(&[uri("spiffe://mesh/ns/shop/sa/web/")])), Name, Name),
        (
            "an identity cut off by NUL",
            Some(good().raw_uri(b"spiffe://mesh/ns/shop/sa/web\0.evil").shown(&ca, &[])),
            Name,
            Name,
        ),
        (
            "an identity ended by NUL",
            Some(good().raw_uri(b"spiffe://mesh/ns/shop/sa/web\0").shown(&ca, &[])),
            Name,
            Name,
        ),
        (
            "an identity not in ASCII",
            Some(good().raw_uri("spiffe://mesh/ns/shop/sa/w\u{435}b".as_bytes()).shown(&ca, &[])),
            Name,
            Name,
        ),
        (
            "an identity not in UTF-8",
            Some(good().raw_uri(b"spiffe://mesh/ns/shop/sa/w\xff\xfe").shown(&ca, &[])),
            Name,
            Name,
        ),
        (
            "two extensions with names",
            Some(
                good()
                    .with(|p| p.subject_alt_names.clear())
                    .raw_uri(WEB.as_bytes())
                    .raw_uri(CLIENT.as_bytes())
                    .shown(&ca, &[]),
            ),
            Untrusted,
            Untrusted,
        ),
        (
            "another trust domain",
            Some(Leaf::good("spiffe://evil/ns/shop/sa/web").shown(&ca, &[])),
            TrustDomain,
            Unexpected,
        ),
        (
            "another identity of the mesh",
            Some(Leaf::good("spiffe://mesh/ns/shop/sa/other").shown(&ca, &[])),
            Taken,
            Unexpected,
        ),
        ("somebody else's certificate", Some(stolen), Untrusted, Untrusted),
    ];
    let ours = honest(&mesh, CLIENT);
    let mut wrong = Vec::new();
    for (name, shown, as_server, as_client) in table {
        let client = reckless_client(shown.clone(), aws_lc_rs::default_provider());
        let accepted = accepts(tls::server_config(&ours), client).await;
        let got_server = outcome(&accepted);
        let got_client = match shown {
            Some(shown) => {
                let client = tls::client_config(&ours, &[id(WEB)]);
                let connected = connects(reckless_server(shown), client).await;
                outcome(&connected)
            }
            None => as_client,
        };
        if (got_server, got_client) != (as_server, as_client) {
            wrong.push(format!("{name}: want {as_server:?}/{as_client:?}, got {got_server:?}/{got_client:?}"));
        }
    }
    assert!(wrong.is_empty(), "as server/as client:\n{}", wrong.join("\n"));
}

/// A signature by the wrong key is found by TLS itself, not by us.
fn outcome<T>(result: &Result<T, HandshakeError>) -> Seen {
    match result {
        Err(HandshakeError::Protocol(text)) if text.contains("BadSignature") => Seen::Untrusted,
        other => seen(other),
    }
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is_and_bytes_pass() {
    let mesh = root("mesh");
    let (web, client) = (honest(&mesh, WEB), honest(&mesh, CLIENT));
    let (accepted, connected) = shake(tls::server_config(&web), tls::client_config(&client, &[id(WEB)])).await;
    let ((mut server, of_client), (mut client, of_server)) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(*of_client.identity(), id(CLIENT));
    assert_eq!(*of_server.identity(), id(WEB));
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    let mut said = [0; 5];
    server.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    let session = server.session().get_ref().1;
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_cipher_suite().unwrap().suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.server_name(), None, "no SNI");
    assert_eq!(client.session().get_ref().1.tls13_tickets_received(), 0, "no resumption");
}

#[tokio::test]
async fn a_client_without_the_preferred_algorithms_is_served_with_others() {
    let mesh = root("mesh");
    let ca = Ca::of(&mesh);
    let web = honest(&mesh, WEB);
    let all = aws_lc_rs::default_provider();
    for (suite, group) in [
        (aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384, aws_lc_rs::kx_group::X25519),
        (aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, aws_lc_rs::kx_group::SECP256R1),
    ] {
        let provider = CryptoProvider { cipher_suites: vec![suite], kx_groups: vec![group], ..all.clone() };
        let client = reckless_client(Some(Leaf::good(CLIENT).shown(&ca, &[])), provider);
        let accepted = accepts(tls::server_config(&web), client).await;
        let session = accepted.unwrap().0;
        assert_eq!(session.session().get_ref().1.negotiated_cipher_suite(), Some(suite));
        assert_eq!(session.session().get_ref().1.negotiated_key_exchange_group().map(|g| g.name()), Some(group.name()));
    }
    // AES-128-GCM is taken also when the client would rather have AES-256-GCM.
    let client = reckless_client(Some(Leaf::good(CLIENT).shown(&ca, &[])), all);
    let accepted = accepts(tls::server_config(&web), client).await;
    let suite = accepted.unwrap().0.session().get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[tokio::test]
async fn whoever_does_not_speak_http2_is_refused() {
    let mesh = root("mesh");
    let ca = Ca::of(&mesh);
    let ours = honest(&mesh, CLIENT);
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let shown = Leaf::good(WEB).shown(&ca, &[]);
        let mut client = reckless_client(Some(shown.clone()), aws_lc_rs::default_provider());
        client.alpn_protocols.clone_from(&protocols);
        let accepted = accepts(tls::server_config(&ours), client).await;
        assert!(matches!(accepted, Err(HandshakeError::NoHttp2)), "{protocols:?}: {:?}", accepted.err());
        let mut server = reckless_server(shown);
        server.alpn_protocols.clone_from(&protocols);
        let connected = connects(server, tls::client_config(&ours, &[id(WEB)])).await;
        assert!(connected.is_err(), "{protocols:?} was taken by our client");
    }
}

#[tokio::test]
async fn a_client_that_expects_nobody_or_another_believes_nobody() {
    let mesh = root("mesh");
    let (web, client) = (honest(&mesh, WEB), honest(&mesh, CLIENT));
    for (expected, want) in [
        (vec![], Seen::Unexpected),
        (vec![id(CLIENT)], Seen::Unexpected),
        (vec![id("spiffe://mesh/ns/shop/sa/we")], Seen::Unexpected),
        (vec![id(CLIENT), id(WEB)], Seen::Taken),
    ] {
        let (_, connected) = shake(tls::server_config(&web), tls::client_config(&client, &expected)).await;
        assert_eq!(seen(&connected), want, "{expected:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_not_shown() {
    let mesh = root("mesh");
    let made = SystemTime::now();
    let (web, client) = (honest_at(&mesh, WEB, made, 60), honest_at(&mesh, CLIENT, made, 3600));
    let clock = Arc::new(SettableClock::new(made));
    let configs = || {
        let server = Arc::new(tls::server_config_at(&web, clock.clone()));
        let client = Arc::new(tls::client_config_at(&client, &[id(WEB)], clock.clone()));
        (server, client)
    };
    let (server, client_config) = configs();
    let (accepted, connected) = shake(server, client_config).await;
    assert!(accepted.is_ok() && connected.is_ok());
    clock.jump(Duration::from_secs(61));
    let (server, client_config) = configs();
    let (accepted, connected) = shake(server, client_config).await;
    assert_eq!(seen(&accepted), Seen::Protocol, "the server has nothing to show");
    assert!(matches!(connected, Err(HandshakeError::Alert(_))), "so the client never sees an expired certificate");
    // As a client it has nothing to show either.
    let (server, client_config) = (
        Arc::new(tls::server_config_at(&client, clock.clone())),
        Arc::new(tls::client_config_at(&web, &[id(CLIENT)], clock.clone())),
    );
    let (accepted, _) = shake(server, client_config).await;
    assert_eq!(seen(&accepted), Seen::NoCertificate);
}

/// Root A, then A+B while A signs, then A+B while B signs, then B; and the same again to C. Workloads
/// renew at any time within a step, so each meets those of the step before and after.
#[tokio::test]
async fn roots_are_exchanged_twice_without_a_failed_handshake() {
    let now = SystemTime::now();
    let roots: Vec<_> = (0..3).map(|_| root("mesh")).collect();
    let mut steps: Vec<(WorkloadCertificate, WorkloadCertificate)> = Vec::new();
    let issue = |signer: usize, trusted: &[usize]| {
        let bundle: String = trusted.iter().map(|at| roots[*at].certificate_pem()).collect();
        let (key, certificate) = (roots[signer].key_pem(), roots[signer].certificate_pem());
        let issuer = pki::issue::Issuer::from_pem(&key, certificate, "", &bundle, now).unwrap();
        (honest(&issuer, WEB), honest(&issuer, CLIENT))
    };
    for (signer, trusted) in
        [(0, &[0][..]), (0, &[0, 1]), (1, &[0, 1]), (1, &[1]), (1, &[1, 2]), (2, &[1, 2]), (2, &[2])]
    {
        steps.push(issue(signer, trusted));
    }
    for (step, (web, _)) in steps.iter().enumerate() {
        for (other, (_, client)) in steps.iter().enumerate() {
            let (accepted, connected) = shake(tls::server_config(web), tls::client_config(client, &[id(WEB)])).await;
            if step.abs_diff(other) <= 1 {
                assert!(accepted.is_ok() && connected.is_ok(), "a server of step {step}, a client of step {other}");
            }
            if (step, other) == (0, 3) || (step, other) == (3, 0) {
                assert!(accepted.is_err() || connected.is_err(), "who knows only the old root is out after the end");
            }
        }
    }
}

/// K-4: what is revoked is refused from then on, at either end and anywhere in the chain, and open
/// connections hear of it; all others go on.
#[tokio::test]
async fn what_is_revoked_is_refused_and_open_connections_hear_of_it() {
    let mesh = root("mesh");
    let ca = Ca::of(&mesh);
    let middle = ca.below("middle", IsCa::Ca(BasicConstraints::Unconstrained));
    let plain = |uri: &str| Leaf::good(uri).shown(&ca, &[]);
    let below = Leaf::good(WEB).shown(&middle, &[&middle]);
    let (first, second) = (plain(WEB), plain(WEB));
    let lists = Revocations::default();
    let ours = honest(&mesh, CLIENT).heeding(&lists);
    let takes = async |shown: &Arc<CertifiedKey>| {
        let client = reckless_client(Some(shown.clone()), aws_lc_rs::default_provider());
        let server = reckless_server(shown.clone());
        let accepted = accepts(tls::server_config(&ours), client).await;
        let connected = connects(server, tls::client_config(&ours, &[id(WEB)])).await;
        assert_eq!(seen(&accepted), seen(&connected));
        (seen(&accepted), accepted.ok().map(|(_, peer)| peer))
    };
    let revoke = |by: &[(&Ca, &CertificateDer<'_>)]| {
        let text: String = by.iter().map(|(ca, revoked)| ca.revokes(revoked)).collect();
        lists.replace(&text).unwrap();
    };
    let mut open = Vec::new();
    for shown in [&first, &second, &below] {
        let (got, peer) = takes(shown).await;
        assert_eq!(got, Seen::Taken);
        open.push(peer.unwrap());
    }
    let told = |peer: &pki::Peer| {
        let peer = peer.clone();
        async move { tokio::time::timeout(Duration::from_millis(100), peer.revoked()).await.is_ok() }
    };
    assert!(!told(&open[0]).await);
    revoke(&[(&ca, &first.cert[0])]);
    assert_eq!(
        (takes(&first).await.0, takes(&second).await.0, takes(&below).await.0),
        (Seen::Revoked, Seen::Taken, Seen::Taken)
    );
    assert_eq!((told(&open[0]).await, told(&open[1]).await, told(&open[2]).await), (true, false, false));
    // An intermediate takes all below it along; a list of another CA revokes nothing here.
    revoke(&[(&ca, &middle.der)]);
    assert_eq!((takes(&first).await.0, takes(&below).await.0), (Seen::Taken, Seen::Revoked));
    assert_eq!((told(&open[0]).await, told(&open[2]).await), (false, true));
    let stranger = Ca::of(&root("mesh"));
    revoke(&[(&stranger, &first.cert[0]), (&middle, &second.cert[0])]);
    assert_eq!((takes(&first).await.0, takes(&second).await.0), (Seen::Taken, Seen::Taken));
    // A list that cannot be read leaves what was.
    revoke(&[(&ca, &first.cert[0])]);
    assert!(lists.replace("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").is_err());
    assert_eq!(takes(&first).await.0, Seen::Revoked);
}

#[tokio::test]
async fn an_open_tunnel_breaks_off_when_its_peer_is_revoked() {
    let mesh = root("mesh");
    let (ca, lists) = (Ca::of(&mesh), Revocations::default());
    let (web, client) = (honest(&mesh, WEB).heeding(&lists), honest(&mesh, CLIENT));
    let revoked = client.chain()[0].der.clone();
    let (accepted, connected) = shake(tls::server_config(&web), tls::client_config(&client, &[id(WEB)])).await;
    let ((mut server, _), (mut client, _)) = (accepted.unwrap(), connected.unwrap());
    client.write_all(b"before").await.unwrap();
    client.flush().await.unwrap();
    let mut said = [0; 6];
    server.read_exact(&mut said).await.unwrap();
    // It waits to read while the list comes, as an idle tunnel does.
    let (read, ()) = tokio::join!(server.read(&mut said), async { lists.replace(&ca.revokes(&revoked)).unwrap() });
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(server.write(b"after").await.is_err() && server.read(&mut said).await.is_err());
}
