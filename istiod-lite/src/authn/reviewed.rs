//! Tokens of a cluster: its API server says whose they are, and the index whether their pod is there.
//!
//! What the server said of a token is remembered for a few seconds, by a digest of the token, so that a
//! node that asks for a hundred certificates costs one question; the pod is looked up every time.

use super::{Authenticating, AuthenticationError, Authenticator, Caller, PodRef, claims};
use crate::facts::PodLookup;
use aws_lc_rs::digest::{SHA256, digest};
use cluster::{
    Client,
    token::{Review, User},
};
use mesh::Identity;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// Longest token that is read. Those of Kubernetes are about 1 KiB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How long the server's word holds: whoever was deleted is believed no longer than that.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Tokens that are remembered: all that 5 000 nodes and some waypoints ask with in 5 s, in under 4 MiB.
const REMEMBERED_MAX: usize = 10_000;

/// Questions at once. The server is there for others too; who waits gives up after some seconds.
const QUESTIONS_MAX: usize = 32;

/// The group that service accounts are in.
const GROUP: &str = "system:serviceaccounts";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server of a cluster.
pub struct ReviewingAuthenticator {
    client: Client,
    audiences: Vec<String>,
    trust_domain: String,
    cluster_id: String,
    pods: Arc<dyn PodLookup>,
    questions: Semaphore,
    remembered: Mutex<Remembered>,
}

impl ReviewingAuthenticator {
    /// Believes tokens that hold for one of `audiences`. Takes callers that name no cluster or `cluster_id`.
    pub fn new(
        client: Client,
        audiences: Vec<String>,
        trust_domain: &str,
        cluster_id: &str,
        pods: Arc<dyn PodLookup>,
    ) -> Self {
        Self {
            client,
            audiences,
            trust_domain: trust_domain.to_owned(),
            cluster_id: cluster_id.to_owned(),
            pods,
            questions: Semaphore::new(QUESTIONS_MAX),
            remembered: Mutex::default(),
        }
    }

    async fn review(&self, bearer: &str, cluster_id: &str) -> Result<Caller, AuthenticationError> {
        if !cluster_id.is_empty() && cluster_id != self.cluster_id {
            return Err(AuthenticationError::UnknownCluster(cluster_id.chars().take(64).collect()));
        }
        // What cannot be a token is not worth a question.
        if bearer.len() > TOKEN_BYTES_MAX || bearer.split('.').count() != 3 {
            return Err(AuthenticationError::BadToken("it is no JSON Web Token of at most 8 KiB".into()));
        }
        let key = Key::of(bearer);
        let known = self.remembered().get(&key, Instant::now());
        let caller = match known {
            Some(caller) => caller,
            None => {
                let caller = self.ask(bearer).await?;
                self.remembered().put(key, caller.clone(), Instant::now());
                caller
            }
        };
        there(&caller, &*self.pods)?;
        Ok(caller)
    }

    async fn ask(&self, bearer: &str) -> Result<Caller, AuthenticationError> {
        let unavailable = |reason: String| AuthenticationError::Unavailable(reason);
        let _turn = self.questions.acquire().await.map_err(|e| unavailable(e.to_string()))?;
        match self.client.review_token(bearer, &self.audiences).await {
            Ok(Review::Holds(user)) => caller(&user, &self.trust_domain),
            Ok(Review::Refused(reason)) => Err(AuthenticationError::BadToken(reason)),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticator for ReviewingAuthenticator {
    fn authenticate<'a>(&'a self, bearer: &'a str, cluster_id: &'a str) -> Authenticating<'a> {
        Box::pin(self.review(bearer, cluster_id))
    }
}

impl fmt::Debug for ReviewingAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReviewingAuthenticator").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Who the server's word proves.
fn caller(user: &User, trust_domain: &str) -> Result<Caller, AuthenticationError> {
    let bad_subject = || AuthenticationError::BadSubject(user.username.chars().take(256).collect());
    if !user.groups.iter().any(|group| group == GROUP) {
        return Err(bad_subject());
    }
    let (namespace, name) = claims::service_account(&user.username).ok_or_else(bad_subject)?;
    let identity = Identity::new(trust_domain, namespace, name).map_err(|_| bad_subject())?;
    // Of two values nobody could say which one counts.
    let only = |key: &str| match user.extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    let pod = only(POD_NAME).zip(only(POD_UID)).map(|(name, uid)| PodRef { name, uid });
    Ok(Caller { identity, pod })
}

/// The pod that a token is bound to is there as the token says.
fn there(caller: &Caller, pods: &dyn PodLookup) -> Result<(), AuthenticationError> {
    let Some(bound) = &caller.pod else { return Ok(()) };
    let (namespace, account) = (caller.identity.namespace(), caller.identity.service_account());
    let found = pods.pod(namespace, &bound.name);
    if found.is_some_and(|pod| *pod.uid == *bound.uid && *pod.service_account == **account) {
        return Ok(());
    }
    Err(AuthenticationError::PodGone(format!("{namespace}/{}", bound.name)))
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 32]);

impl Key {
    fn of(bearer: &str) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, bearer.as_bytes()).as_ref());
        Self(key)
    }
}

/// Who tokens belong to, and until when that holds.
#[derive(Default)]
struct Remembered(HashMap<Key, (Caller, Instant)>);

impl Remembered {
    fn get(&mut self, key: &Key, now: Instant) -> Option<Caller> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(caller, _)| caller.clone())
    }

    fn put(&mut self, key: Key, caller: Caller, now: Instant) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, (_, until)| now < *until);
        }
        // Full of what still holds: asking again is all that forgetting costs.
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(key, (caller, now + REMEMBERED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::PodRecord;

    fn user(username: &str, extra: &[(&str, &[&str])]) -> User {
        let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        User {
            username: username.into(),
            groups: texts(&[GROUP]),
            extra: extra.iter().map(|(key, values)| ((*key).to_owned(), texts(values))).collect(),
            ..User::default()
        }
    }

    #[test]
    fn only_a_service_account_is_a_caller_and_its_pod_is_named_once() {
        let web = "system:serviceaccount:shop:web";
        for (user, want) in [
            (user(web, &[]), Some("spiffe://mesh/ns/shop/sa/web -")),
            (user(web, &[(POD_NAME, &["p"]), (POD_UID, &["u"])]), Some("spiffe://mesh/ns/shop/sa/web p/u")),
            (user(web, &[(POD_NAME, &["p"])]), Some("spiffe://mesh/ns/shop/sa/web -")),
            (user(web, &[(POD_NAME, &["p", "q"]), (POD_UID, &["u"])]), Some("spiffe://mesh/ns/shop/sa/web -")),
            (user(web, &[(POD_NAME, &["p"]), (POD_UID, &[""])]), Some("spiffe://mesh/ns/shop/sa/web -")),
            (user("system:node:n1", &[]), None),
            (user("system:serviceaccount:shop:web:x", &[]), None),
            (user("system:serviceaccount:shop:a/b", &[]), None),
            (User { groups: vec![], ..user(web, &[]) }, None),
        ] {
            let shown = caller(&user, "mesh").ok().map(|caller| {
                let pod = caller.pod.map_or_else(|| "-".to_owned(), |pod| format!("{}/{}", pod.name, pod.uid));
                format!("{} {pod}", caller.identity)
            });
            assert_eq!(shown.as_deref(), want, "{user:?}");
        }
    }

    struct OnePod;

    impl PodLookup for OnePod {
        fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
            let record = PodRecord { uid: "u".into(), service_account: "web".into(), node: "n1".into() };
            (namespace == "shop" && name == "p").then_some(record)
        }

        fn runs_on(&self, _: &str, _: &str, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn a_bound_token_needs_its_pod() {
        for (account, pod, want) in [
            ("web", Some(("p", "u")), true),
            ("web", None, true),
            ("web", Some(("p", "other")), false),
            ("web", Some(("gone", "u")), false),
            ("other", Some(("p", "u")), false),
        ] {
            let identity = Identity::new("mesh", "shop", account).expect("a good identity");
            let pod = pod.map(|(name, uid)| PodRef { name: name.into(), uid: uid.into() });
            let caller = Caller { identity, pod };
            assert_eq!(there(&caller, &OnePod).is_ok(), want, "{caller:?}");
        }
    }

    #[test]
    fn the_servers_word_holds_for_a_while_and_memory_is_bounded() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        let caller = caller(&user("system:serviceaccount:shop:web", &[]), "mesh").expect("a caller");
        remembered.put(Key::of("a"), caller.clone(), now);
        assert_eq!(remembered.get(&Key::of("a"), now + REMEMBERED / 2), Some(caller.clone()));
        assert_eq!(remembered.get(&Key::of("a"), now + REMEMBERED), None);
        assert_eq!(remembered.get(&Key::of("b"), now), None);
        for n in 0..3 * REMEMBERED_MAX {
            remembered.put(Key::of(&n.to_string()), caller.clone(), now);
        }
        assert!(remembered.0.len() <= REMEMBERED_MAX);
    }
}
