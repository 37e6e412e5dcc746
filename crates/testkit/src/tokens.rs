//! Tokens of service accounts, honest ones and such as do not hold, for tests of who believes them.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whose token it is.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Namespace of pod and account.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its service account.
    pub account: &'a str,
    /// The node that the token names, which nobody may believe.
    pub node: &'a str,
    /// Another pod of the namespace, with its uid, that has another account.
    pub neighbour: Option<(&'a str, &'a str)>,
}

/// Ways in which a token does not hold. Each gets the honest claims and the honest key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It held until a second ago.
    Expired,
    /// Whoever signed it, or whoever reads it, has a wrong clock: it holds in five minutes.
    NotYetValid,
    /// It is for the API server.
    OtherAudience,
    /// It is for nobody.
    NoAudience,
    /// Another cluster signed it.
    OtherIssuer,
    /// It is forged: signed with a key of the forger.
    OtherKey,
    /// It says that it needs no signature.
    NoAlgorithm,
    /// It is signed with what everybody knows, as if that were a shared secret.
    SymmetricAlgorithm,
    /// A letter of the claims was changed.
    ChangedAfterSigning,
    /// Its end is missing.
    CutOff,
    /// It is of an earlier pod of the name.
    OtherUid,
    /// It does not say of which incarnation it is.
    NoUid,
    /// Its pod is gone.
    PodGone,
    /// It is bound to a pod of another account.
    PodOfAnotherAccount,
    /// Its subject is another than its claims say.
    SubjectOfAnother,
    /// Its subject has a part too many.
    SubjectWithAFifthPart,
    /// It is a node's.
    SubjectOfANode,
    /// It is bound to no pod.
    NotBound,
    /// There is none.
    NoToken,
    /// The caller says that it is of another cluster.
    OtherCluster,
}

/// All of them.
pub const FLAWS: &[Flaw] = &[
    Flaw::Expired,
    Flaw::NotYetValid,
    Flaw::OtherAudience,
    Flaw::NoAudience,
    Flaw::OtherIssuer,
    Flaw::OtherKey,
    Flaw::NoAlgorithm,
    Flaw::SymmetricAlgorithm,
    Flaw::ChangedAfterSigning,
    Flaw::CutOff,
    Flaw::OtherUid,
    Flaw::NoUid,
    Flaw::PodGone,
    Flaw::PodOfAnotherAccount,
    Flaw::SubjectOfAnother,
    Flaw::SubjectWithAFifthPart,
    Flaw::SubjectOfANode,
    Flaw::NotBound,
    Flaw::NoToken,
    Flaw::OtherCluster,
];

/// Honest claims.
pub fn claims(holder: &Holder<'_>) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": format!("system:serviceaccount:{}:{}", holder.namespace, holder.account),
        "aud": ["istio-ca"], "iat": now, "nbf": now, "exp": now + 600,
        "kubernetes.io": {
            "namespace": holder.namespace,
            "serviceaccount": {"name": holder.account},
            "pod": {"name": holder.pod, "uid": holder.uid},
            "node": {"name": holder.node},
        },
    })
}

/// Signs with a P-256 key, as the API server does.
#[derive(Debug)]
pub struct Signer {
    pem: String,
}

impl Signer {
    /// With this key, in PEM.
    pub fn new(pem: &str) -> Self {
        Self { pem: pem.into() }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.pem.as_bytes()).expect("a P-256 key");
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key).expect("claims can be signed")
    }

    /// The token and the cluster of a caller with this flaw; an empty token is none.
    pub fn flawed(&self, flaw: Flaw, holder: &Holder<'_>) -> (String, &'static str) {
        let mut claims = claims(holder);
        let now = claims["iat"].as_u64().unwrap_or_default();
        let mut cluster = "Kubernetes";
        match flaw {
            Flaw::Expired => claims["exp"] = json!(now - 1),
            Flaw::NotYetValid => claims["nbf"] = json!(now + 300),
            Flaw::OtherAudience => claims["aud"] = json!(["https://kubernetes.default.svc"]),
            Flaw::NoAudience => claims["aud"] = json!([]),
            Flaw::OtherIssuer => claims["iss"] = json!("https://kubernetes.evil"),
            Flaw::OtherUid => claims["kubernetes.io"]["pod"]["uid"] = json!("uid-of-yesterday"),
            Flaw::NoUid => claims["kubernetes.io"]["pod"]["uid"] = json!(""),
            Flaw::PodGone => claims["kubernetes.io"]["pod"]["name"] = json!("gone"),
            Flaw::PodOfAnotherAccount => {
                // A pod that is there, in its namespace, with its right uid, but another's.
                let (name, uid) = holder.neighbour.unwrap_or(("none", "uid-none"));
                claims["kubernetes.io"]["pod"] = json!({"name": name, "uid": uid});
            }
            Flaw::SubjectOfAnother => claims["sub"] = json!("system:serviceaccount:kube-system:other"),
            Flaw::SubjectWithAFifthPart => {
                claims["sub"] = json!(format!("system:serviceaccount:{}:{}:x", holder.namespace, holder.account));
            }
            Flaw::SubjectOfANode => claims["sub"] = json!("system:node:n1"),
            Flaw::NotBound => claims["kubernetes.io"] = json!({"namespace": "istio-system"}),
            Flaw::OtherCluster => cluster = "another",
            Flaw::NoToken => return (String::new(), cluster),
            Flaw::OtherKey => {
                let forger = rcgen::KeyPair::generate().expect("a key can be made").serialize_pem();
                return (Self::new(&forger).sign(&claims), cluster);
            }
            Flaw::SymmetricAlgorithm => {
                // The old trick: what everybody may read, used as a shared secret.
                let pair = rcgen::KeyPair::from_pem(&self.pem).expect("a key");
                let key = EncodingKey::from_secret(pair.public_key_pem().as_bytes());
                let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
                return (token.expect("claims can be signed"), cluster);
            }
            Flaw::NoAlgorithm | Flaw::ChangedAfterSigning | Flaw::CutOff => {
                return (distorted(flaw, &self.sign(&claims)), cluster);
            }
        }
        (self.sign(&claims), cluster)
    }
}

fn distorted(flaw: Flaw, token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    match flaw {
        // {"alg":"none","typ":"JWT"}
        Flaw::NoAlgorithm => format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]),
        Flaw::ChangedAfterSigning => {
            let mut payload = parts[1].to_owned();
            let middle = payload.len() / 2;
            let other = if payload.as_bytes()[middle] == b'A' { "B" } else { "A" };
            payload.replace_range(middle..=middle, other);
            format!("{}.{payload}.{}", parts[0], parts[2])
        }
        _ => token[..token.len() - 10].to_owned(),
    }
}
