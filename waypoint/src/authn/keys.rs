//! JSON Web Key Sets (RFC 7517): read once, asked for each token.

use super::{refused::Refusal, token::Token};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde_json::Value;

/// The most keys of a set: issuers publish a few, and a token without a key's name is tried with all.
const KEYS_MAX: usize = 100;

/// The keys of an issuer that can be used.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: Option<String>,
    /// The only algorithm it is for, if it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// Why a text is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysUnusable {
    #[error("it is no JSON Web Key Set: {0}")]
    Form(String),
    #[error("none of its keys can be used")]
    NoKey,
}

impl KeySet {
    /// Reads a set. Keys of kinds we do not know are left out, as RFC 7517 §5 asks; symmetric ones are too.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeysUnusable> {
        let mut whole: Value = serde_json::from_slice(text).map_err(|error| KeysUnusable::Form(error.to_string()))?;
        let Some(Value::Array(keys)) = whole.get_mut("keys").map(Value::take) else {
            return Err(KeysUnusable::Form("it has no list of keys".into()));
        };
        let keys: Vec<Key> = keys.into_iter().take(KEYS_MAX).filter_map(Key::of).collect();
        if keys.is_empty() { Err(KeysUnusable::NoKey) } else { Ok(Self { keys }) }
    }

    /// Whether one of the keys has signed a token.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        if self.keys.is_empty() {
            return Err(Refusal::NoKeys);
        }
        let mut refusal = Refusal::UnknownKey;
        for key in self.keys.iter().filter(|key| key.is_for(token)) {
            let message = token.message.as_bytes();
            if jsonwebtoken::crypto::verify(token.signature, message, &key.key, token.algorithm).unwrap_or(false) {
                return Ok(());
            }
            refusal = Refusal::Signature;
        }
        Err(refusal)
    }
}

impl Key {
    fn of(mut value: Value) -> Option<Self> {
        // Fields that are not needed may be anything.
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| {
                matches!(name.as_str(), "kty" | "crv" | "n" | "e" | "x" | "y" | "kid" | "alg" | "use")
            });
        }
        let algorithm = value.get("alg").and_then(Value::as_str).map(ToOwned::to_owned);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("alg");
        }
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if matches!(jwk.common.public_key_use, Some(ref of) if *of != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (key.family() != AlgorithmFamily::Hmac).then_some(Self { name: jwk.common.key_id, algorithm, key })
    }

    /// Whether it may have signed a token: by its name where both say one, and by its kind.
    fn is_for(&self, token: &Token<'_>) -> bool {
        let name = match (&self.name, &token.key_id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let said = self.algorithm.as_ref().is_none_or(|own| *own == name_of(token.algorithm));
        name && said && self.key.family().algorithms().contains(&token.algorithm)
    }
}

fn name_of(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}
