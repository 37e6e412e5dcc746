//! From what was told to what proxies are told: the one task that writes the index and the
//! catalog, and the rule of who may see what.

use crate::{
    ca::policy::Policy,
    facts::{PodLookup, PodRecord},
    index::{Index, Mesh},
    ledger::Ledger,
    problems::Problems,
    report::Report,
    source::{News, Told},
};
use mesh::Identity;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use tokio::sync::mpsc;
use xds::{
    resource,
    server::{Publication, Publisher, Scope},
};

/// The index, read by many and written by [`Writer`] alone.
#[derive(Clone, Debug)]
pub struct SharedIndex {
    index: Arc<RwLock<Index>>,
}

impl SharedIndex {
    /// An index that knows nothing yet.
    pub fn new(mesh: Mesh) -> Self {
        Self { index: Arc::new(RwLock::new(Index::new(mesh))) }
    }

    /// What it knows now. Nothing is taken in while this is held.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodLookup for SharedIndex {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        self.read().pod(namespace, name)
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        self.read().runs_on(node, namespace, service_account)
    }
}

/// Takes in what is told.
#[derive(Debug)]
pub struct Writer {
    index: SharedIndex,
    publisher: Publisher,
    problems: Arc<Problems>,
    report: Arc<Report>,
    ledger: Option<Arc<Ledger>>,
}

impl Writer {
    /// The only one who writes `index` and `publisher`.
    pub fn new(index: SharedIndex, publisher: Publisher, problems: Arc<Problems>, report: Arc<Report>) -> Self {
        Self { index, publisher, problems, report, ledger: None }
    }

    /// The same that also keeps what those must know who write to the cluster.
    #[must_use]
    pub fn keeping(self, ledger: Arc<Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Takes in until the line ends. Then the publisher is dropped, and every session with it.
    pub async fn run(mut self, mut line: mpsc::Receiver<Told>) {
        while let Some(told) = line.recv().await {
            let more = told.more;
            self.take(told);
            // The first moment was everything that was there.
            if !more {
                self.publisher.set_synced();
            }
        }
    }

    /// Takes in one moment, whole.
    pub fn take(&mut self, told: Told) {
        let mut publications = Vec::new();
        {
            let mut index = self.index.index.write().unwrap_or_else(PoisonError::into_inner);
            for news in told.news {
                match news {
                    News::Fact(fact) => {
                        self.report.fact(&fact.key());
                        publications.extend(index.apply(fact));
                    }
                    News::Clear(subject) => self.problems.clear(&subject),
                    News::Problem(problem) => {
                        if self.problems.add(problem) {
                            self.report.problem();
                        }
                    }
                    News::Seen(key, object) => {
                        if let Some(ledger) = &self.ledger {
                            ledger.note(key, &object);
                        }
                    }
                    News::Gone(key) => {
                        if let Some(ledger) = &self.ledger {
                            ledger.forget(&key);
                        }
                    }
                }
            }
        }
        if let Some(ledger) = &self.ledger {
            ledger.settle();
        }
        self.problems.settle();
        let logged = self.publisher.apply(latest(publications), told.at);
        self.report.encoded(self.publisher.encodes());
        tracing::debug!(changes = logged, "took in what was told");
    }
}

/// Of several changes of one resource only the last is encoded and sent.
fn latest(publications: Vec<Publication>) -> Vec<Publication> {
    let mut last = HashMap::new();
    for (n, publication) in publications.iter().enumerate() {
        last.insert(resource::of_change(&publication.change), n);
    }
    let mut n = 0;
    let keep = |publication: &Publication| {
        n += 1;
        last.get(&resource::of_change(&publication.change)) == Some(&(n - 1))
    };
    let mut publications = publications;
    publications.retain(keep);
    publications
}

/// What a caller may see, by who it is and never by what it says of itself. Whoever is not known
/// to need the configuration sees none of it.
pub fn scope(caller: &Identity, policy: &Policy, index: &Index) -> Option<Scope> {
    let is = |(namespace, account): &(String, String)| {
        **namespace == **caller.namespace() && **account == **caller.service_account()
    };
    if policy.trusted_node_accounts.iter().any(is) {
        return Some(Scope::NodeProxy);
    }
    index.gateway_of(caller).map(Scope::Waypoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::{Change, Service, Workload};

    #[test]
    fn of_several_changes_of_one_resource_the_last_counts() {
        let workload = |node: &str| Change::Workload(Arc::new(Workload { node: node.into(), ..Workload::named("u") }));
        let service = Change::Service(Arc::new(Service::named("shop", "web")));
        let told = [workload("n1"), service, Change::RemoveAddress("u".into()), workload("n2")];
        let kept = latest(told.map(Publication::from).into());
        let shown: Vec<String> = kept
            .iter()
            .map(|publication| match &publication.change {
                Change::Workload(workload) => format!("{} on {}", workload.uid, workload.node),
                Change::Service(service) => service.key().to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["shop/web", "u on n2"]);
    }

    #[test]
    fn only_node_proxies_see_the_mesh() {
        for (namespace, account, expected) in [
            ("istio-system", "ztunnel", Some(Scope::NodeProxy)),
            ("istio-system", "default", None),
            ("shop", "ztunnel", None),
        ] {
            let caller = Identity::new("cluster.local", namespace, account).expect("a good identity");
            assert_eq!(scope(&caller, &Policy::default(), &Index::default()), expected, "{caller}");
        }
    }
}
