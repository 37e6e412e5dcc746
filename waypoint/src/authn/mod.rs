//! Tokens (Istio's RequestAuthentication): who a request says it is for, beside who its
//! connection is from.
//!
//! A request without a token passes without claims; whether that is enough is for policies to say.
//! A request with a token that is not good is refused, whatever else it carries: all tokens that
//! are found at places of the rules must be good, and the claims are those of the first. (Envoy
//! lets pass what has one good token; ours is stricter.) Headers that carry claims to the backend
//! are taken from every request first, so that nobody can write them himself.
//!
//! Rooms: `place` (where tokens are) · `token` (parse and judge one) · `keys` (JSON Web Key Sets) ·
//! `schedule` (when to fetch them) · [`store`] (fetches them) · [`fetch`] (how) · `edit` (what the
//! backend sees) · [`refused`] (what the caller sees). Only `store` and `fetch` wait; the clock for
//! `exp` and `nbf` is an argument.
//!
//! Keys of a remote set stay in use until newer ones came, however long that takes: a set that
//! cannot be fetched any more must not lock everybody out. Where none ever came, tokens are refused.

mod edit;
pub mod fetch;
mod keys;
mod place;
pub mod refused;
mod schedule;
pub mod store;
mod token;

pub use fetch::{Fetch, FetchFailed};
pub use refused::{Refusal, Refused};
pub use store::KeyStore;
pub use token::Claims;

use mesh::{
    Str,
    route::guard::{Authentication, Issuer},
};
use place::{Found, Place};
use std::{sync::Arc, time::SystemTime};
use store::Source;
use token::Judged;

/// The rules of a service and its waypoint together, ready to be asked.
#[derive(Clone, Debug)]
pub struct Authenticator {
    issuers: Vec<Accepted>,
    /// Every place once, with the issuers whose tokens may be there.
    places: Vec<(Place, Vec<usize>)>,
}

/// An issuer, and where its keys are.
#[derive(Clone, Debug)]
struct Accepted {
    rule: Issuer,
    keys: Source,
}

impl Authenticator {
    /// Rules made ready; `store` has the keys. Rules of a waypoint and of a service add up.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Authentication>, store: &KeyStore) -> Self {
        let issuers = rules.into_iter().flat_map(|rule| &rule.issuers);
        let issuers: Vec<Accepted> =
            issuers.map(|rule| Accepted { rule: rule.clone(), keys: store.source(&rule.keys) }).collect();
        let mut places: Vec<(Place, Vec<usize>)> = Vec::new();
        for (at, issuer) in issuers.iter().enumerate() {
            for place in Place::of(&issuer.rule) {
                match places.iter_mut().find(|(known, _)| *known == place) {
                    Some((_, issuers)) => issuers.push(at),
                    None => places.push((place, vec![at])),
                }
            }
        }
        Self { issuers, places }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Judges the tokens of a request and makes it what the backend may see. Waits only for keys
    /// that are not there, and no longer than the rule says.
    pub async fn authenticate(
        &self,
        head: &mut http::request::Parts,
        now: SystemTime,
    ) -> Result<Option<Arc<Claims>>, Refused> {
        edit::remove_spoofed(self.issuers.iter().map(|issuer| &issuer.rule), &mut head.headers);
        let found: Vec<Found> = self.places.iter().flat_map(|(place, issuers)| place.tokens(head, issuers)).collect();
        let mut first = None;
        for found in &found {
            let judged = self.judge(found, now).await.map_err(|refusal| Refused::of(refusal, head))?;
            edit::strip(&self.issuers[judged.issuer].rule, found, head);
            first.get_or_insert(judged);
        }
        let Some(judged) = first else { return Ok(None) };
        edit::tell_backend(&self.issuers[judged.issuer].rule, &judged, &mut head.headers);
        Ok(Some(Arc::new(judged.claims)))
    }

    async fn judge(&self, found: &Found, now: SystemTime) -> Result<Judged, Refusal> {
        let token = token::Token::parse(&found.token)?;
        let issuer = token.issuer();
        let is_of = |at: &&usize| Some(&*self.issuers[**at].rule.issuer) == issuer;
        // Two rules may name one issuer, with other audiences or keys: one that accepts is enough.
        let mut refused = Refusal::UnknownIssuer;
        for at in found.issuers.iter().filter(is_of) {
            let issuer = &self.issuers[*at];
            match issuer.accepts(&token, now).await {
                Ok(()) => return Ok(token.judged(*at)),
                Err(refusal) => refused = refusal,
            }
        }
        Err(refused)
    }
}

impl Accepted {
    async fn accepts(&self, token: &token::Token<'_>, now: SystemTime) -> Result<(), Refusal> {
        token.is_for(&self.rule.audiences, now)?;
        let first = self.keys.now().map_or(Err(Refusal::NoKeys), |keys| keys.verify(token));
        match (first, &self.keys) {
            // Keys may have changed since they were fetched.
            (Err(Refusal::NoKeys | Refusal::UnknownKey), Source::Remote(remote)) => {
                remote.renewed().await;
                remote.now().map_or(Err(Refusal::NoKeys), |keys| keys.verify(token))
            }
            (first, _) => first,
        }
    }
}

/// Names of headers as rules have them: lower case.
fn header_name(name: &Str) -> Option<http::HeaderName> {
    http::HeaderName::from_bytes(name.as_bytes()).ok()
}

#[cfg(test)]
mod tests;
