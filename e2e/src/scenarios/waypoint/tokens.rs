//! Tokens (JWT) at the waypoint: good, expired, wrong audience, wrong issuer, unknown key, keys that
//! rotate, keys out of reach.

use super::{CLIENT, ask};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "mall";

/// A key pair and its name.
struct Key {
    name: &'static str,
    pair: rcgen::KeyPair,
}

impl Key {
    fn new(name: &'static str) -> Result<Self> {
        Ok(Self { name, pair: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)? })
    }

    /// As a JSON Web Key: the two coordinates of the point on the curve.
    fn public(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
        let point = self.pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        format!(
            r#"{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{}","x":"{}","y":"{}"}}"#,
            self.name,
            BASE64.encode(x),
            BASE64.encode(y)
        )
    }

    fn token(&self, issuer: &str, audience: &str, valid_for: i64) -> Result<String> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let claims = serde_json::json!({
            "iss": issuer, "aud": audience, "sub": "alice", "exp": now + valid_for, "iat": now - 600,
            "groups": ["admins", "users"], "nested": { "level": "7" },
        });
        let header = Header { kid: Some(self.name.into()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes())?;
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }
}

fn key_set(keys: &[&Key]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.iter().map(|key| key.public()).collect::<Vec<_>>().join(","))
}

/// The server of keys: a file that is served by a pod of the mall.
const KEYS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: keys, namespace: mall, labels: { app: keys } }
spec:
  nodeName: node2
  containers: [{ name: python, command: [sh, -c], args: ['mkdir -p /tmp/keys && cd /tmp/keys && exec python3 -m http.server 8080 --bind ::'] }]
---
apiVersion: v1
kind: Service
metadata: { name: keys, namespace: mall }
spec: { selector: { app: keys }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

/// Asks for tokens of the issuer; a policy lets only requests with one pass.
fn objects(uri: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: tokens, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store }}]\n  jwtRules:\n\
         \x20   - issuer: {ISSUER}\n      audiences: [{AUDIENCE}]\n      jwksUri: {uri}\n      forwardOriginalToken: false\n\
         \x20     outputClaimToHeaders: [{{ header: x-subject, claim: sub }}]\n\
         ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: tokens, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store }}]\n  action: ALLOW\n  rules:\n\
         \x20   - from: [{{ source: {{ requestPrincipals: ['{ISSUER}/*'] }} }}]\n\
         \x20     when: [{{ key: 'request.auth.claims[groups]', values: [admins] }}, {{ key: \
         'request.auth.claims[nested][level]', values: ['7'] }}]\n"
    )
}

fn publish(stage: &Stage, text: &str) -> Result<()> {
    let command = format!("printf %s '{text}' > /tmp/keys/new && mv /tmp/keys/new /tmp/keys/jwks.json");
    stage.exec("mall/keys", &["sh", "-c", &command])?.ok()?;
    Ok(())
}

fn status(stage: &Stage, token: Option<&str>) -> Result<u16> {
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    let options: Vec<&str> = header.iter().flat_map(|header| ["-H", header.as_str()]).collect();
    Ok(ask(stage, CLIENT, "http://store.mall/", &options)?.status)
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    stage.apply(KEYS)?;
    stage.ready(&["mall/keys"])?;
    let (one, two, stranger) = (Key::new("one")?, Key::new("two")?, Key::new("one")?);
    let good = one.token(ISSUER, AUDIENCE, 600)?;

    // Before there are keys nobody's token can be believed.
    let rules = objects("http://keys.mall.svc.cluster.local/jwks.json");
    stage.apply(&rules)?;
    stage.wait("without keys a token is refused", super::RULES_DEADLINE, |stage| {
        Ok(status(stage, Some(&good))? == 401 && status(stage, None)? == 403)
    })?;
    publish(stage, &key_set(&[&one]))?;
    stage.wait("with its key the token passes", Duration::from_secs(60), |stage| {
        Ok(status(stage, Some(&good))? == 200)
    })?;
    let forged = format!(
        "{}.{}.{}",
        good.split('.').next().unwrap_or_default(),
        good.split('.').nth(1).unwrap_or_default(),
        "AAAA"
    );
    let cases = [
        ("good", Some(good.clone()), 200),
        ("none", None, 403),
        ("expired", Some(one.token(ISSUER, AUDIENCE, -300)?), 401),
        ("wrong audience", Some(one.token(ISSUER, "market", 600)?), 403),
        ("wrong issuer", Some(one.token("https://other.example", AUDIENCE, 600)?), 401),
        ("another key of the same name", Some(stranger.token(ISSUER, AUDIENCE, 600)?), 401),
        ("unknown key", Some(two.token(ISSUER, AUDIENCE, 600)?), 401),
        ("signature cut", Some(forged), 401),
        ("no token at all", Some("abc".into()), 401),
    ];
    for (what, token, wanted) in &cases {
        let found = status(stage, token.as_deref())?;
        // A token for another audience is refused either way; Istio says 403.
        let same = found == *wanted || (*what == "wrong audience" && found == 401);
        ensure!(same, "{what}: {found}, not {wanted}");
    }
    let arrived = ask(
        stage,
        CLIENT,
        "http://store.mall/",
        &["-H", &format!("Authorization: Bearer {good}"), "-H", "x-subject: mallory"],
    )?;
    let arrived = arrived.arrived()?;
    ensure!(arrived.header("x-subject") == "alice", "the claim's header is {}", arrived.header("x-subject"));
    ensure!(arrived.header("authorization") == "-", "the token was forwarded");
    seen.push(format!(
        "{} kinds of tokens, each with the right answer; the claim goes to the backend, the token does not",
        cases.len()
    ));

    // The issuer begins to sign with another key, and publishes both, then only the new one.
    publish(stage, &key_set(&[&one, &two]))?;
    let next = two.token(ISSUER, AUDIENCE, 600)?;
    stage.wait("a token of the new key passes", Duration::from_secs(60), |stage| {
        Ok(status(stage, Some(&next))? == 200)
    })?;
    ensure!(status(stage, Some(&good))? == 200, "the old key is still published");
    publish(stage, &key_set(&[&two]))?;
    let unknown = Key::new("three")?.token(ISSUER, AUDIENCE, 600)?;
    stage.wait("a token of the old key is refused", Duration::from_secs(60), |stage| {
        // A key that is not known makes the set be fetched again, though not at every request.
        ensure!(status(stage, Some(&unknown))? == 401, "a key that nobody has published is believed");
        Ok(status(stage, Some(&good))? == 401)
    })?;
    ensure!(status(stage, Some(&next))? == 200, "the new key is published");
    stage.delete(KEYS)?;
    stage.wait("the keys' server is gone", super::RULES_DEADLINE, |stage| {
        Ok(!stage.status()?.pods.iter().any(|pod| pod.namespace == "mall" && pod.name == "keys"))
    })?;
    ensure!(status(stage, Some(&unknown))? == 401, "without a server an unknown key is refused");
    ensure!(status(stage, Some(&next))? == 200, "the last keys stay in use while newer ones cannot be fetched");
    seen.push(
        "keys rotate: old and new pass while both are published, then only the new; without a server the last stay"
            .into(),
    );

    stage.delete(&rules)?;
    let unreachable = objects("http://nobody.mall.svc.cluster.local/jwks.json");
    stage.apply(&unreachable)?;
    stage.wait("keys out of reach refuse", super::RULES_DEADLINE, |stage| Ok(status(stage, Some(&good))? == 401))?;
    stage.delete(&unreachable)?;
    stage.wait("without rules everybody passes", super::RULES_DEADLINE, |stage| Ok(status(stage, None)? == 200))?;
    seen.push("keys that cannot be fetched: every token is refused".into());
    inline(stage, seen, &one)
}

/// Keys that stand in the object, tokens in other places, and what claims decide.
fn inline(stage: &mut Stage, seen: &mut Vec<String>, key: &Key) -> Result<()> {
    let objects = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: inline, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store }}]\n  jwtRules:\n\
         \x20   - issuer: {ISSUER}\n      jwks: '{}'\n      forwardOriginalToken: true\n\
         \x20     fromHeaders: [{{ name: x-token, prefix: 'Token ' }}]\n      fromParams: [token]\n      fromCookies: [jar]\n\
         \x20     outputPayloadToHeader: x-payload\n---\n{CLAIMS}",
        key_set(&[key])
    );
    let token = key.token(ISSUER, AUDIENCE, 600)?;
    let header = format!("x-token: Token {token}");
    let cookie = format!("cookie: a=b; jar={token}");
    let get =
        |stage: &Stage, path: &str, options: &[&str]| ask(stage, CLIENT, &format!("http://store.mall{path}"), options);
    stage.apply(&objects)?;
    stage.wait("a claim decides the route", super::RULES_DEADLINE, |stage| {
        let answer = get(stage, "/", &["-H", &header])?;
        Ok(answer.status == 200 && answer.header("x-rule") == "claims")
    })?;
    let arrived = get(stage, "/", &["-H", &header])?.arrived()?;
    ensure!(arrived.header("x-token").ends_with(&token), "the token goes on: {}", arrived.header("x-token"));
    ensure!(arrived.header("x-payload").len() > 40, "the payload goes to the backend: {}", arrived.header("x-payload"));
    for (path, options) in [
        (format!("/?token={token}"), vec![]),
        ("/".into(), vec!["-H", cookie.as_str()]),
        ("/".into(), vec!["-H", &header]),
    ] {
        let answer = get(stage, &path, &options)?;
        ensure!(answer.header("x-rule") == "claims", "{path} {options:?}: {answer:?}");
    }
    ensure!(get(stage, "/", &[])?.header("x-rule") == "-", "without a token there are no claims");
    let elsewhere = format!("authorization: Bearer {token}");
    ensure!(get(stage, "/", &["-H", &elsewhere])?.header("x-rule") == "-", "elsewhere no token is looked for");
    ensure!(get(stage, "/", &["-H", "x-token: Token abc"])?.status == 401, "a bad token is refused");
    let limited: Vec<u16> =
        (0..3).map(|_| Ok(get(stage, "/limited", &["-H", &header])?.status)).collect::<Result<_>>()?;
    ensure!(limited == [200, 429, 429], "one request a subject: {limited:?}");
    stage.delete(&objects)?;
    seen.push("keys in the object; tokens in header, query and cookie; a claim decides route and limit".into());
    Ok(())
}

/// What claims decide: a route, and whose requests are counted together.
const CLAIMS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: claims, namespace: mall }
spec:
  hosts: [store]
  http:
    - match:
        - headers: { '@request.auth.claims.groups': { exact: admins }, '@request.auth.claims[nested][level]': { exact: '7' } }
      headers: { response: { set: { x-rule: claims } } }
      route: [{ destination: { host: store-v1 } }]
    - route: [{ destination: { host: store-v2 } }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: claims, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  rateLimit: [{ requests: 1, per: 1h, burst: 1, keys: [{ type: Claim, name: sub }], matches: [{ path: { value: /limited } }] }]
";
