//! Tokens that are made here, with keys that are made here, judged by the rules of Istio.

use super::*;
use crate::external::dial::Dial;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use mesh::{
    ServiceKey,
    route::{Destination, guard::Keys},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{LazyLock, Mutex},
    time::Duration,
};
use tokio::runtime::Handle;

/// A key pair: to sign with, and as a JSON Web Key.
struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    name: &'static str,
    public: Value,
}

impl Signer {
    fn new(algorithm: Algorithm, name: &'static str) -> Self {
        let pair = match algorithm {
            Algorithm::RS256 | Algorithm::PS384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
            Algorithm::ES384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::EdDSA => rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519),
            _ => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        };
        let pair = pair.unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 | Algorithm::PS384 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let key = key.unwrap();
        let mut public = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap(),
        };
        public["kid"] = name.into();
        public["unheard-of"] = json!({"of": 1});
        Self { key, algorithm, name, public }
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": format!("{:?}", self.algorithm), "kid": self.name, "typ": "JWT"}), claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

static EC: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::ES256, "ec"));
static OTHER: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::ES256, "other"));

const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.public.clone()).collect::<Vec<_>>()}).to_string()
}

fn issuer(name: &str, keys: Keys) -> Issuer {
    Issuer {
        issuer: name.into(),
        audiences: vec![],
        keys,
        from_headers: vec![],
        from_params: vec![],
        from_cookies: vec![],
        forward_token: false,
        payload_header: None,
        claim_headers: vec![],
    }
}

fn inline(name: &str, signers: &[&Signer]) -> Issuer {
    issuer(name, Keys::Inline(set(signers).into()))
}

/// Answers in order what it was given, and counts.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<String, FetchFailed>>>,
    asked: Mutex<usize>,
}

impl Script {
    fn say(&self, answer: Result<String, FetchFailed>) {
        self.answers.lock().unwrap().push_back(answer);
    }
    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Fetch for Script {
    fn fetch(&self, _: Uri) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
        *self.asked.lock().unwrap() += 1;
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            match answer {
                Some(answer) => answer.map(Bytes::from),
                None => std::future::pending().await,
            }
        })
    }
}

fn authenticator(issuers: Vec<Issuer>, fetch: &Arc<Script>) -> Authenticator {
    let store = KeyStore::new(fetch.clone(), Handle::current());
    Authenticator::new(&[Authentication { name: "shop/tokens".into(), issuers }], &store)
}

fn bearer(token: &str) -> http::request::Parts {
    Request::get("http://web.shop/cart?x=1")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

async fn judged(issuers: Vec<Issuer>, head: &mut http::request::Parts) -> Result<Option<Arc<Claims>>, Refusal> {
    let judged = authenticator(issuers, &Arc::default()).authenticate(head, now()).await;
    judged.map_err(|refused| refused.refusal)
}

#[tokio::test]
async fn tokens_of_every_public_key_algorithm_are_verified() {
    for algorithm in [Algorithm::RS256, Algorithm::PS384, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let mut signer = Signer::new(algorithm, "k");
        // The same RSA key serves both kinds of padding.
        signer.public.as_object_mut().unwrap().remove("alg");
        let token = signer.token(&json!({"iss": "me", "sub": "you", "aud": ["a", "b"], "azp": "app", "exp": NOW + 9}));
        let claims = judged(vec![inline("me", &[&OTHER, &signer])], &mut bearer(&token)).await.unwrap().unwrap();
        assert_eq!(claims.principal().as_deref(), Some("me/you"), "{algorithm:?}");
        assert_eq!((&*claims.audiences, &*claims.presenter), (&["a".into(), "b".into()][..], "app"));
        let cut = token.rsplit_once('.').unwrap().0;
        let forged = format!("{cut}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        assert_eq!(judged(vec![inline("me", &[&signer])], &mut bearer(&forged)).await, Err(Refusal::Signature));
    }
}

#[tokio::test]
async fn what_is_not_good_is_refused_with_istios_reason() {
    let good = json!({"iss": "me", "sub": "you"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        EC.token(&claims)
    };
    let head = |header: Value| EC.signed(&header, &good);
    let hmac = {
        let message = format!("{}.{}", encoded(&json!({"alg": "HS256", "kid": "ec"})), encoded(&good));
        let key = EncodingKey::from_secret(set(&[&EC]).as_bytes());
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
    };
    for (token, refusal) in [
        ("x".to_owned(), Refusal::Form),
        ("a.b".into(), Refusal::Form),
        ("a.b.c.d".into(), Refusal::Form),
        (format!("{}.b.c", "a".repeat(40_000)), Refusal::Form),
        ("?.b.c".into(), Refusal::HeaderBase64),
        (format!("{}.b.c", URL_SAFE_NO_PAD.encode("[]")), Refusal::HeaderJson),
        (format!("{}.?.c", encoded(&json!({"alg": "ES256"}))), Refusal::PayloadBase64),
        (format!("{}.{}.c", encoded(&json!({"alg": "ES256"})), URL_SAFE_NO_PAD.encode("7")), Refusal::PayloadJson),
        (head(json!({"kid": "ec"})), Refusal::NoAlgorithm),
        (head(json!({"alg": "none"})), Refusal::Algorithm),
        (head(json!({"alg": "NONE"})), Refusal::Algorithm),
        (head(json!({"alg": "ES256", "kid": 7})), Refusal::KeyId),
        (head(json!({"alg": "ES256", "crit": ["b64"]})), Refusal::HeaderJson),
        (head(json!({"alg": "ES256", "kid": "unknown"})), Refusal::UnknownKey),
        (head(json!({"alg": "RS256", "kid": "ec"})), Refusal::UnknownKey),
        (head(json!({"alg": "ES384", "kid": "ec"})), Refusal::UnknownKey),
        (hmac, Refusal::Algorithm),
        (format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&good)), Refusal::Algorithm),
        (with("iss", json!("somebody")), Refusal::UnknownIssuer),
        (with("iss", json!(7)), Refusal::PayloadJson),
        (with("exp", json!("soon")), Refusal::PayloadJson),
        (with("aud", json!([1])), Refusal::PayloadJson),
        (with("exp", json!(NOW - 61)), Refusal::Expired),
        (with("nbf", json!(NOW + 61)), Refusal::NotYet),
        (OTHER.signed(&json!({"alg": "ES256", "kid": "ec"}), &good), Refusal::Signature),
    ] {
        let seen = judged(vec![inline("me", &[&EC])], &mut bearer(&token)).await;
        assert_eq!(seen, Err(refusal), "{}", &token[..token.len().min(200)]);
    }
    for token in [with("exp", json!(NOW - 59)), with("nbf", json!(NOW + 59)), with("exp", json!(NOW as f64 + 0.5))] {
        assert!(judged(vec![inline("me", &[&EC])], &mut bearer(&token)).await.is_ok(), "clocks may differ by a minute");
    }
}

#[tokio::test]
async fn an_audience_that_is_not_asked_for_is_forbidden() {
    for (wanted, said, good) in [
        (vec!["a"], json!("a"), true),
        (vec!["a", "b"], json!(["x", "b"]), true),
        (vec!["https://a/"], json!("a"), true),
        (vec!["a"], json!("b"), false),
        (vec!["a"], Value::Null, false),
        (vec![], json!("anything"), true),
    ] {
        let mut rule = inline("me", &[&EC]);
        rule.audiences = wanted.iter().map(|text| (*text).into()).collect();
        let seen = judged(vec![rule], &mut bearer(&EC.token(&json!({"iss": "me", "aud": said})))).await;
        assert_eq!(seen.err(), (!good).then_some(Refusal::Audience), "{wanted:?} {said}");
    }
    assert_eq!(Refusal::Audience.status(), 403);
}

#[tokio::test]
async fn tokens_are_found_where_the_rule_says_and_taken_away() {
    let token = EC.token(&json!({"iss": "me"}));
    let elsewhere = Issuer {
        from_headers: vec![("x-token".into(), "jwt ".into())],
        from_params: vec!["t".into()],
        from_cookies: vec!["session".into()],
        ..inline("me", &[&EC])
    };
    let plain = inline("me", &[&EC]);
    let get = |uri: &str, headers: &[(&str, String)]| {
        let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, value));
        request.body(()).unwrap().into_parts().0
    };
    for (rule, mut head, found) in [
        (&plain, get("/a?b=c", &[]), false),
        (&plain, get("/", &[("authorization", "Basic xyz".into())]), false),
        (&plain, get("/", &[("authorization", format!("bEARER {token}"))]), true),
        (&plain, get(&format!("/a?b=c&access_token={token}&d"), &[]), true),
        (&elsewhere, get("/", &[("authorization", format!("Bearer {token}"))]), false),
        (&elsewhere, get("/", &[("x-token", format!("jwt {token}"))]), true),
        (&elsewhere, get(&format!("/?t={}", token.replace('.', "%2E")), &[]), true),
        (&elsewhere, get("/", &[("cookie", format!("a=b; session={token}; c=d"))]), true),
    ] {
        let before = head.clone();
        let claims = judged(vec![rule.clone()], &mut head).await.unwrap();
        assert_eq!(claims.is_some(), found, "{before:?}");
        let text = format!("{head:?}");
        assert!(!found || !text.contains(&token) && !text.contains("%2E"), "the backend must not see it: {text}");
        if !found {
            assert_eq!((head.uri, head.headers), (before.uri, before.headers));
        }
    }
    let mut head = get(&format!("/a?b=c&access_token={token}&d"), &[("cookie", "x=y".into())]);
    judged(vec![plain.clone()], &mut head).await.unwrap();
    assert_eq!(head.uri, "/a?b=c&d");
    let mut head = get("/", &[("authorization", format!("Bearer {token}")), ("authorization", "Basic q".into())]);
    judged(vec![plain], &mut head).await.unwrap();
    assert_eq!(head.headers["authorization"], "Basic q");
}

#[tokio::test]
async fn every_token_must_be_good() {
    let (mine, yours) = (EC.token(&json!({"iss": "me"})), OTHER.token(&json!({"iss": "you"})));
    let rules = vec![
        inline("me", &[&EC]),
        Issuer { from_headers: vec![("x-token".into(), "".into())], ..inline("you", &[&OTHER]) },
    ];
    let mut head = bearer(&mine);
    head.headers.insert("x-token", yours.parse().unwrap());
    assert_eq!(&*judged(rules.clone(), &mut head).await.unwrap().unwrap().issuer, "me");
    let mut head = bearer(&mine);
    head.headers.insert("x-token", mine.parse().unwrap());
    assert_eq!(judged(rules.clone(), &mut head).await, Err(Refusal::UnknownIssuer), "not at that place");
    assert_eq!(judged(rules, &mut bearer(&yours)).await, Err(Refusal::UnknownIssuer));
}

#[tokio::test]
async fn the_backend_reads_claims_that_nobody_else_can_write() {
    let rule = Issuer {
        forward_token: true,
        payload_header: Some("x-payload".into()),
        claim_headers: vec![
            ("x-sub".into(), vec!["sub".into()]),
            ("x-team".into(), vec!["org".into(), "team".into()]),
            ("x-groups".into(), vec!["groups".into()]),
            ("x-none".into(), vec!["none".into()]),
            ("x-odd".into(), vec!["odd".into()]),
        ],
        ..inline("me", &[&EC])
    };
    let claims = json!({"iss": "me", "sub": "you", "org": {"team": 7}, "groups": ["a"], "odd": "a\nb"});
    let token = EC.token(&claims);
    let spoof = |head: &mut http::request::Parts| {
        for name in ["x-payload", "x-sub", "x-team", "x-groups", "x-none", "x-odd"] {
            head.headers.append(name, "root".parse().unwrap());
            head.headers.append(name, "admin".parse().unwrap());
        }
    };
    let mut head = bearer(&token);
    spoof(&mut head);
    judged(vec![rule.clone()], &mut head).await.unwrap();
    assert_eq!(head.headers["authorization"], format!("Bearer {token}"));
    assert_eq!(head.headers["x-payload"], encoded(&claims));
    assert_eq!((&head.headers["x-sub"], &head.headers["x-team"]), (&"you".parse().unwrap(), &"7".parse().unwrap()));
    assert_eq!(head.headers["x-groups"], URL_SAFE_NO_PAD.encode("[\"a\"]"));
    assert!(!head.headers.contains_key("x-none") && !head.headers.contains_key("x-odd"));

    let mut head = Request::get("/").body(()).unwrap().into_parts().0;
    spoof(&mut head);
    assert_eq!(judged(vec![rule], &mut head).await, Ok(None));
    assert!(head.headers.is_empty(), "without a token nobody has claims");
}

#[tokio::test]
async fn a_refusal_challenges_the_caller() {
    let refused =
        authenticator(vec![inline("me", &[&EC])], &Arc::default()).authenticate(&mut bearer("x"), now()).await;
    let refused = refused.unwrap_err();
    let response = refused.response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bearer realm=\"http://web.shop/cart\", error=\"invalid_token\""
    );
    assert_eq!(response.body(), "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    assert!(refused.details().starts_with("jwt_authn_access_denied{Jwt_is_not_in_the_form"));
}

#[test]
fn claims_are_read_by_their_path() {
    let json = json!({"scope": "read write", "a": {"b": ["x", 1, true, {}]}, "t": "one two"});
    let claims = Claims { issuer: "".into(), subject: "".into(), audiences: vec![], presenter: "".into(), json };
    for (path, texts) in [
        (vec!["scope"], vec!["read", "write"]),
        (vec!["a", "b"], vec!["x", "1", "true"]),
        (vec!["t"], vec!["one two"]),
        (vec!["a"], vec![]),
        (vec!["a", "b", "c"], vec![]),
        (vec![], vec![]),
    ] {
        let path: Vec<Str> = path.into_iter().map(Into::into).collect();
        assert_eq!(claims.texts(&path), texts, "{path:?}");
    }
    assert_eq!(claims.principal(), None);
}

#[tokio::test]
async fn a_set_that_cannot_be_used_refuses_its_tokens() {
    let token = EC.token(&json!({"iss": "me"}));
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec"}]}).to_string();
    for text in ["", "{}", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"?\"}]}", &secret] {
        let rule = issuer("me", Keys::Inline(text.into()));
        assert_eq!(judged(vec![rule], &mut bearer(&token)).await, Err(Refusal::NoKeys), "{text}");
    }
}

fn remote() -> Issuer {
    issuer("me", Keys::Remote { uri: "http://keys.test/".into(), timeout: Duration::from_secs(2) })
}

fn failed() -> Result<String, FetchFailed> {
    Err(FetchFailed::Status(503))
}

#[tokio::test(start_paused = true)]
async fn remote_keys_are_fetched_before_the_first_token_and_every_twenty_minutes() {
    let script = Arc::<Script>::default();
    script.say(Ok(set(&[&EC])));
    let rules = authenticator(vec![remote()], &script);
    let token = EC.token(&json!({"iss": "me"}));
    assert!(rules.authenticate(&mut bearer(&token), now()).await.is_ok());
    assert_eq!(script.asked(), 1);
    tokio::time::sleep(schedule::REFRESH - Duration::from_secs(1)).await;
    assert_eq!(script.asked(), 1);
    script.say(failed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(script.asked() >= 2);
    assert!(rules.authenticate(&mut bearer(&token), now()).await.is_ok(), "the last keys stay");
}

#[tokio::test(start_paused = true)]
async fn without_keys_tokens_are_refused_until_they_come() {
    let script = Arc::<Script>::default();
    script.say(failed());
    let rules = authenticator(vec![remote()], &script);
    let token = EC.token(&json!({"iss": "me"}));
    let refused = rules.authenticate(&mut bearer(&token), now()).await.unwrap_err();
    assert_eq!((refused.refusal, refused.refusal.status().as_u16()), (Refusal::NoKeys, 401));
    script.say(Ok(set(&[&EC])));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rules.authenticate(&mut bearer(&token), now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_no_more_than_its_time() {
    let script = Arc::<Script>::default();
    let rules = authenticator(vec![remote()], &script);
    let before = tokio::time::Instant::now();
    let refused = rules.authenticate(&mut bearer(&EC.token(&json!({"iss": "me"}))), now()).await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::NoKeys);
    assert!(before.elapsed() <= Duration::from_millis(2_010));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_known_is_asked_for_once_in_a_while() {
    let script = Arc::<Script>::default();
    script.say(Ok(set(&[&EC])));
    let rules = authenticator(vec![remote()], &script);
    rules.authenticate(&mut bearer(&EC.token(&json!({"iss": "me"}))), now()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    script.say(Ok(set(&[&EC, &OTHER])));
    let rotated = OTHER.token(&json!({"iss": "me"}));
    assert!(rules.authenticate(&mut bearer(&rotated), now()).await.is_ok(), "issuers change keys");
    assert_eq!(script.asked(), 2);
    let forged = EC.signed(&json!({"alg": "ES256", "kid": "made-up"}), &json!({"iss": "me"}));
    for _ in 0..50 {
        let refused = rules.authenticate(&mut bearer(&forged), now()).await.unwrap_err();
        assert_eq!(refused.refusal, Refusal::UnknownKey);
    }
    assert_eq!(script.asked(), 2, "made-up names of keys fetch nothing");
}

#[tokio::test(start_paused = true)]
async fn rules_of_one_uri_share_its_keys_and_the_last_ends_the_fetching() {
    let script = Arc::<Script>::default();
    script.say(Ok(set(&[&EC])));
    let store = KeyStore::new(script.clone(), Handle::current());
    let rule = [Authentication { name: "a".into(), issuers: vec![remote()] }];
    let (first, second) = (Authenticator::new(&rule, &store), Authenticator::new(&rule, &store));
    let token = EC.token(&json!({"iss": "me"}));
    for rules in [&first, &second] {
        rules.authenticate(&mut bearer(&token), now()).await.unwrap();
    }
    assert_eq!(script.asked(), 1);
    drop((first, second));
    tokio::time::sleep(schedule::REFRESH * 3).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn a_server_is_asked_directly() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for answer in [good, "HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", good] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let n = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
            assert!(
                head.starts_with("get /keys?a=b http/1.1\r\n") && head.contains(&format!("host: 127.0.0.1:{port}\r\n"))
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let ask = async {
        let direct = fetch::Direct::new().unwrap();
        let uri: Uri = format!("http://127.0.0.1:{port}/keys?a=b").parse().unwrap();
        assert_eq!(direct.fetch(uri.clone()).await.unwrap(), "{}");
        assert_eq!(direct.fetch(uri).await, Err(FetchFailed::Status(302)));
        assert!(matches!(direct.fetch("ftp://x/".parse().unwrap()).await, Err(FetchFailed::Uri(_))));
        let service = ServiceKey { namespace: "a".into(), hostname: "keys.a".into() };
        let find = move |host: &str, port| {
            (host == "127.0.0.1").then(|| Destination::Service { service: service.clone(), port, subset: None })
        };
        let call = Arc::new(Dial(std::net::SocketAddr::from(([127, 0, 0, 1], port))));
        let through = fetch::Through::new(call, Arc::new(find), direct);
        let uri = |host: &str| format!("http://{host}:{port}/keys?a=b").parse().unwrap();
        assert_eq!(through.fetch(uri("127.0.0.1")).await.unwrap(), "{}");
        assert!(matches!(through.fetch("ftp://x/".parse().unwrap()).await, Err(FetchFailed::Uri(_))));
    };
    tokio::join!(serve, ask);
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_trouble(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
        for text in [&text, &parts] {
            let _refused = token::Token::parse(text).map(|token| token.is_for(&[], now()));
        }
    }
}
