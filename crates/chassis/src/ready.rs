//! Why this process does not serve yet: a set of named reasons, each gone when its token is dropped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The reasons, shared by everybody who has or asks for one.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    pending: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One reason not to be ready; dropping it says that it is over.
#[derive(Debug)]
#[must_use = "dropping the token at once says that the reason is over"]
pub struct Token {
    name: String,
    ready: Ready,
}

impl Ready {
    /// Nothing is pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reason. The name is what `/healthz/ready` lists. The same name may be given again.
    pub fn register(&self, name: &str) -> Token {
        *self.lock().entry(name.to_owned()).or_default() += 1;
        Token { name: name.to_owned(), ready: self.clone() }
    }

    /// The reasons that are left, sorted.
    pub fn pending(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// No reason is left.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Counting cannot be left half done, so a panic elsewhere does not spoil the map.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut pending = self.ready.lock();
        let last = match pending.get_mut(&self.name) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => pending.remove(&self.name).is_some(),
            None => false,
        };
        let left: Vec<String> = pending.keys().cloned().collect();
        drop(pending);
        if last {
            if left.is_empty() {
                tracing::info!("{:?} is done, now ready", self.name);
            } else {
                tracing::info!("{:?} is done, still pending: {}", self.name, left.join(", "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_token_is_dropped() {
        let ready = Ready::new();
        assert!(ready.is_ready());
        let proxy = ready.register("proxy");
        let state = ready.register("state manager");
        assert_eq!(ready.pending(), ["proxy", "state manager"]);
        drop(proxy);
        assert_eq!(ready.pending(), ["state manager"]);
        drop(state);
        assert!(ready.is_ready());
    }

    #[test]
    fn a_reason_given_twice_lasts_until_both_are_over() {
        let ready = Ready::new();
        let one = ready.register("pods");
        let two = ready.register("pods");
        drop(one);
        assert!(!ready.is_ready());
        drop(two);
        assert!(ready.is_ready());
    }
}
