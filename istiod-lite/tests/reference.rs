//! Policies from a user's YAML to a verdict, against a reading of the same policies word for word.

use istiod_lite::{
    facts::Fact,
    files,
    index::{Index, Mesh},
};
use mesh::{
    Identity, View,
    authz::{self, Attributes},
};
use std::path::Path;
use testkit::reference::{self, Call, Cast, Dice, Pod};

/// The view of a proxy that was told of these manifests.
fn view(manifests: &str) -> View {
    let (objects, problems) = chassis::objects::parse(Path::new("generated.yaml"), manifests);
    assert!(problems.is_empty(), "{problems:?} in\n{manifests}");
    let mut index = Index::new(Mesh::default());
    objects.iter().fold(View::default(), |view, object| {
        let reading = files::read(object);
        let understood = reading.fact.as_ref().is_some_and(|fact| !matches!(fact, Fact::Otherwise(_)));
        assert!(understood, "{:?} in\n{manifests}", reading.problems);
        let published = reading.fact.into_iter().flat_map(|fact| index.apply(fact));
        view.apply(published.map(|publication| publication.change))
    })
}

fn verdict(view: &View, pod: &Pod, call: &Call) -> authz::Verdict {
    let destination = view.workload_by_address("", pod.address).expect("the pod is there");
    let identity = call.caller.as_ref().map(|[domain, namespace, account]| {
        Identity::new(domain, namespace, account).expect("a generated identity is good")
    });
    let attributes = Attributes {
        source: identity.as_ref(),
        source_ip: call.address,
        destination_ip: pod.address,
        destination_port: call.port,
        server_name: None,
        request: None,
    };
    authz::decide(view, destination, &attributes)
}

#[test]
fn every_verdict_is_that_of_the_reference() {
    const MESHES: u64 = 600;
    const CALLS: usize = 40;
    let cast = Cast::default();
    let pods: String = cast.pods.iter().map(Pod::manifest).collect();
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..MESHES {
        let mut dice = Dice::seeded(seed);
        let count = 1 + dice.under(3);
        let policies: Vec<_> = (0..count).map(|n| cast.policy(&mut dice, &format!("p{n}"))).collect();
        let manifests: String = policies.iter().map(reference::Policy::manifest).collect();
        let view = view(&format!("{pods}{manifests}"));
        for _ in 0..CALLS {
            let (pod, call) = cast.call(&mut dice);
            let expected = reference::allowed(&policies, &cast.root_namespace, pod, &call);
            let found = verdict(&view, pod, &call);
            assert_eq!(found.allowed, expected, "seed {seed}: {call:?} to {pod:?}: {found:?} under\n{manifests}");
            assert!(found.missing.is_empty(), "seed {seed}: {found:?}");
            *if expected { &mut passed } else { &mut refused } += 1;
        }
    }
    // A generator whose policies decide nothing would prove nothing.
    assert!(passed * 4 > refused && refused * 4 > passed, "{passed} passed, {refused} refused");
}
