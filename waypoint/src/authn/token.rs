//! One token (JSON Web Token, RFC 7519): parsed, and judged but for its signature.
//!
//! Only what is signed with a public key algorithm counts. `none` and the HMACs are refused before
//! any key is looked at: with an HMAC, whoever knows the public key could sign.

use super::refused::Refusal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use mesh::Str;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// How much clocks may differ; Istio's (Envoy's) own.
const LEEWAY: Duration = Duration::from_secs(60);

/// The longest token that is looked at. Heads of requests are no longer, and a megabyte of base64
/// is work that anybody could ask for.
const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// What a token that was judged good says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Str,
    /// `sub`; "" if it has none.
    pub subject: Str,
    /// `aud`.
    pub audiences: Vec<Str>,
    /// `azp`; "" if it has none.
    pub presenter: Str,
    /// All of it: an object.
    pub json: Value,
}

impl Claims {
    /// `issuer/subject`, which policies call the request principal; none without a subject.
    pub fn principal(&self) -> Option<String> {
        (!self.subject.is_empty()).then(|| format!("{}/{}", self.issuer, self.subject))
    }

    /// The claim at a path of names.
    pub fn at(&self, path: &[Str]) -> Option<&Value> {
        path.iter().try_fold(&self.json, |value, name| value.get(&**name)).filter(|_| !path.is_empty())
    }

    /// The texts of a claim as policies compare them: one, or those of a list. As with Istio,
    /// `scope` and `permission` at the top are lists of words.
    pub fn texts(&self, path: &[Str]) -> Vec<String> {
        let words = matches!(path, [one] if matches!(&**one, "scope" | "permission"));
        match self.at(path) {
            Some(Value::String(text)) if words => text.split_whitespace().map(ToOwned::to_owned).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(text_of).collect(),
            Some(value) => text_of(value).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

/// A claim as a text; none for objects and lists.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A token that can be read.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    /// The key it says it is signed with.
    pub(super) key_id: Option<String>,
    /// What is signed.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
    claims: Map<String, Value>,
    audiences: Vec<Str>,
    expires: Option<f64>,
    not_before: Option<f64>,
}

/// A token that is good.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) claims: Claims,
    /// Which rule accepts it.
    pub(super) issuer: usize,
    /// Its claims as it carries them: base64url.
    pub(super) payload: String,
}

impl<'a> Token<'a> {
    /// Reads a token. Nothing of it is believed yet.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else { return Err(Refusal::Form) };
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Form);
        }
        let fields = object(header, Refusal::HeaderBase64, Refusal::HeaderJson)?;
        let algorithm = match fields.get("alg") {
            Some(Value::String(name)) => algorithm(name).ok_or(Refusal::Algorithm)?,
            _ => return Err(Refusal::NoAlgorithm),
        };
        // Extensions that must be understood (RFC 7515 §4.1.11): we understand none.
        if fields.contains_key("crit") {
            return Err(Refusal::HeaderJson);
        }
        let key_id = text_field(&fields, "kid").map_err(|()| Refusal::KeyId)?;
        let claims = object(payload, Refusal::PayloadBase64, Refusal::PayloadJson)?;
        for name in ["iss", "sub"] {
            text_field(&claims, name).map_err(|()| Refusal::PayloadJson)?;
        }
        let audiences = match claims.get("aud") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one.as_str().into()],
            Some(Value::Array(list)) => {
                let texts: Option<Vec<Str>> = list.iter().map(|value| value.as_str().map(Into::into)).collect();
                texts.ok_or(Refusal::PayloadJson)?
            }
            Some(_) => return Err(Refusal::PayloadJson),
        };
        let time = |name: &str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Refusal::PayloadJson),
        };
        let (expires, not_before) = (time("exp")?, time("nbf")?);
        let message = &text[..header.len() + 1 + payload.len()];
        Ok(Self { algorithm, key_id, message, signature, payload, claims, audiences, expires, not_before })
    }

    /// Who it says has made it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whether it is for one of these (empty: anybody), and for now.
    pub(super) fn is_for(&self, audiences: &[Str], now: SystemTime) -> Result<(), Refusal> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway = LEEWAY.as_secs_f64();
        if self.not_before.is_some_and(|from| now + leeway < from) {
            return Err(Refusal::NotYet);
        }
        if self.expires.is_some_and(|until| now > until + leeway) {
            return Err(Refusal::Expired);
        }
        let named = |audience: &Str| audiences.iter().any(|wanted| same_audience(wanted, audience));
        if audiences.is_empty() || self.audiences.iter().any(named) { Ok(()) } else { Err(Refusal::Audience) }
    }

    /// It is good: what it says counts.
    pub(super) fn judged(self, issuer: usize) -> Judged {
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str).unwrap_or_default().into();
        let (of, subject, presenter) = (text("iss"), text("sub"), text("azp"));
        let claims =
            Claims { issuer: of, subject, audiences: self.audiences, presenter, json: Value::Object(self.claims) };
        Judged { claims, issuer, payload: self.payload.to_owned() }
    }
}

/// Envoy compares audiences without their scheme and without a slash at their end.
fn same_audience(a: &str, b: &str) -> bool {
    let bare = |text: &str| {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text).to_owned()
    };
    a == b || bare(a) == bare(b)
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

fn object(part: &str, encoding: Refusal, json: Refusal) -> Result<Map<String, Value>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| encoding)?;
    serde_json::from_slice(&bytes).map_err(|_| json)
}

fn text_field(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, ()> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(()),
    }
}
