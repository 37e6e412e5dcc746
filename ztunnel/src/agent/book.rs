//! What is known of this node's pods, and what follows for each: what should be of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cni::Announced;
use super::enrol::{self, Outside, Selection};
use super::facts::{Labels, PodFacts, PodName};
use super::place::Place;
use super::status;
use super::steps::{Member, Told, Want};

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) selection: Selection,
    /// Whether DNS is captured where a pod does not say.
    pub(super) dns: bool,
    /// The mesh is being removed from this node: nobody belongs into it.
    pub(super) closing: bool,
    /// Whether namespaces of running pods can be found.
    pub(super) searches: bool,
    pub(super) namespaces: BTreeMap<String, Labels>,
    /// The pods of this node.
    pub(super) pods: BTreeMap<PodName, PodFacts>,
    /// What was announced of them before they started.
    pub(super) announced: BTreeMap<PodName, Announced>,
    /// Namespaces that were found, by the uid that the kubelet gave the pod.
    pub(super) found: BTreeMap<String, Place>,
    /// Uids of pods that were looked for and have no process.
    pub(super) missing: BTreeSet<String>,
}

/// What should be of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This.
    Want(Want),
    /// Its namespace has to be found first.
    Miss(String),
    /// Too little is known to do anything.
    TooEarly,
}

impl Book {
    /// Whether a pod belongs into the mesh.
    pub(super) fn belongs(&self, name: &PodName, pod: &PodFacts) -> Result<(), Outside> {
        if self.closing {
            return Err(Outside::MeshRemoved);
        }
        let none = Labels::new();
        let labels = self.namespaces.get(&name.namespace).unwrap_or(&none);
        enrol::belongs(pod, &name.namespace, labels, &self.selection)
    }

    /// What should be of a pod. `kept` says that its namespace is held already.
    pub(super) fn verdict(&self, name: &PodName, kept: bool) -> Verdict {
        let Some(pod) = self.pods.get(name) else { return Verdict::Want(Want::Gone) };
        match self.belongs(name, pod) {
            Ok(()) => self.inside(name, pod),
            Err(Outside::Ended) => Verdict::Want(Want::Gone),
            Err(_) => {
                let netns = self.place(name, pod);
                // An earlier agent may have left rules in it, which would cut it off for ever.
                let left = status::told(pod) != Told::Nothing && !kept && netns.is_none();
                if left && self.searches && !self.missing.contains(pod.given_uid()) {
                    return Verdict::Miss(pod.given_uid().to_owned());
                }
                Verdict::Want(Want::Out { netns, hurry: self.closing })
            }
        }
    }

    fn inside(&self, name: &PodName, pod: &PodFacts) -> Verdict {
        let addresses = self.addresses(name, pod);
        if addresses.is_empty() || pod.uid.is_empty() {
            return Verdict::TooEarly;
        }
        let Some(netns) = self.place(name, pod) else { return Verdict::Miss(pod.given_uid().to_owned()) };
        Verdict::Want(Want::In(Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            netns,
            addresses,
            redirect: enrol::redirect(pod, self.dns),
            running: pod.running,
        }))
    }

    /// Where its namespace is: as the Pod says, as was announced when it started, or as was found.
    fn place(&self, name: &PodName, pod: &PodFacts) -> Option<Place> {
        let said = pod.netns().map(Place::Path);
        let announced = || self.announced.get(name).map(|announced| Place::Path(announced.netns.clone()));
        said.or_else(announced).or_else(|| self.found.get(pod.given_uid()).cloned())
    }

    /// Its addresses. What was announced is newer than what the Pod says until that agrees: after a
    /// node was started again, Pods still have the addresses of their last life. Who says where a
    /// pod's namespace is, as the lab does, says its addresses with it.
    fn addresses(&self, name: &PodName, pod: &PodFacts) -> Vec<IpAddr> {
        let said_with_its_place = pod.netns().is_some() && !pod.addresses.is_empty();
        match self.announced.get(name) {
            Some(announced)
                if !said_with_its_place
                    && announced.addresses.iter().any(|address| !pod.addresses.contains(address)) =>
            {
                announced.addresses.clone()
            }
            _ => pod.addresses.clone(),
        }
    }

    /// Addresses that the node's probes may have to reach.
    pub(super) fn probed(&self) -> BTreeSet<IpAddr> {
        let inside = self.pods.iter().filter(|(name, pod)| self.belongs(name, pod).is_ok());
        inside.flat_map(|(name, pod)| self.addresses(name, pod)).collect()
    }

    /// The pods of a namespace.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<PodName> {
        self.pods.keys().filter(|name| name.namespace == namespace).cloned().collect()
    }

    /// Forgets what was found of pods that are no more.
    pub(super) fn forget(&mut self, pod: &PodFacts) {
        self.found.remove(pod.given_uid());
        self.missing.remove(pod.given_uid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> PodName {
        PodName { namespace: "shop".into(), name: "web".into() }
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    /// A book with one pod of an enrolled namespace that has these addresses.
    fn book(addresses: &str) -> Book {
        let pod = PodFacts { uid: "u".into(), addresses: ips(addresses), ..PodFacts::default() };
        let ambient = Labels::from([("istio.io/dataplane-mode".to_owned(), "ambient".to_owned())]);
        Book {
            searches: true,
            namespaces: [("shop".to_owned(), ambient)].into(),
            pods: [(web(), pod)].into(),
            ..Book::default()
        }
    }

    fn announce(book: &mut Book, addresses: &str) {
        let announced = Announced { pod: web(), netns: "/n".into(), addresses: ips(addresses), uid: None };
        book.announced.insert(web(), announced);
    }

    fn annotate(book: &mut Book, value: &str) {
        let pod = book.pods.get_mut(&web()).unwrap();
        pod.annotations.insert("ambient.istio.io/redirection".into(), value.into());
    }

    #[test]
    fn a_running_pod_that_nobody_announced_is_looked_for() {
        let mut book = book("10.0.0.1");
        assert_eq!(book.verdict(&web(), false), Verdict::Miss("u".into()));
        book.found.insert("u".into(), Place::from("/found"));
        assert!(
            matches!(book.verdict(&web(), false), Verdict::Want(Want::In(member)) if member.netns == Place::from("/found"))
        );
        book.pods.get_mut(&web()).unwrap().addresses.clear();
        assert_eq!(book.verdict(&web(), false), Verdict::TooEarly, "it has not started");
    }

    #[test]
    fn what_was_announced_counts_until_the_pod_agrees() {
        for (announced, said, expected) in [
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1 fd00::1", "10.0.0.1 fd00::1"),
            ("10.0.0.9", "10.0.0.1", "10.0.0.9"),
            ("10.0.0.1 fd00::9", "10.0.0.1 fd00::1", "10.0.0.1 fd00::9"),
        ] {
            let mut book = book(said);
            announce(&mut book, announced);
            let Verdict::Want(Want::In(member)) = book.verdict(&web(), false) else { panic!("{announced} {said}") };
            assert_eq!(member.addresses, ips(expected), "announced {announced}, said {said}");
            assert_eq!(member.netns, Place::from("/n"));
        }
    }

    #[test]
    fn a_pod_that_left_while_nobody_looked_is_looked_for_before_it_is_let_alone() {
        let mut book = book("10.0.0.1");
        book.namespaces.clear();
        assert_eq!(
            book.verdict(&web(), false),
            Verdict::Want(Want::Out { netns: None, hurry: false }),
            "it never was in"
        );
        annotate(&mut book, "enabled");
        assert_eq!(book.verdict(&web(), false), Verdict::Miss("u".into()));
        assert_eq!(
            book.verdict(&web(), true),
            Verdict::Want(Want::Out { netns: None, hurry: false }),
            "its namespace is held"
        );
        book.missing.insert("u".into());
        assert_eq!(
            book.verdict(&web(), false),
            Verdict::Want(Want::Out { netns: None, hurry: false }),
            "nothing runs in it"
        );
        book.found.insert("u".into(), Place::from("/found"));
        let out = Want::Out { netns: Some(Place::from("/found")), hurry: false };
        assert_eq!(book.verdict(&web(), false), Verdict::Want(out));
    }

    #[test]
    fn when_the_mesh_is_removed_everybody_is_out() {
        let mut book = book("10.0.0.1");
        announce(&mut book, "10.0.0.1");
        assert_eq!(book.probed().into_iter().collect::<Vec<_>>(), ips("10.0.0.1"));
        book.closing = true;
        assert_eq!(
            book.verdict(&web(), true),
            Verdict::Want(Want::Out { netns: Some(Place::from("/n")), hurry: true })
        );
        assert!(book.probed().is_empty());
    }

    #[test]
    fn a_static_pod_is_known_by_the_uid_of_its_file() {
        let mut book = book("10.0.0.1");
        let pod = book.pods.get_mut(&web()).unwrap();
        pod.annotations.insert("kubernetes.io/config.mirror".into(), "0123".into());
        assert_eq!(book.verdict(&web(), false), Verdict::Miss("0123".into()));
    }
}
