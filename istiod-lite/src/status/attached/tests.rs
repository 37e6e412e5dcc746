use super::*;
use crate::facts::{Parent, ParentTarget, Target, TargetKind};

const STAMP: Stamp<'_> = Stamp { now: "now", generation: Some(1) };

fn of_service() -> Value {
    json!({"group": "", "kind": "Service", "name": "web", "port": 80})
}

fn accepted(since: &str) -> Value {
    json!([{"type": "Accepted", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": since, "observedGeneration": 1}])
}

fn route(parents: &[Value], status: &[Value]) -> Value {
    json!({"metadata": {"namespace": "shop"}, "spec": {"parentRefs": parents}, "status": {"parents": status}})
}

fn entry(reference: &Value, controller: &str, since: &str) -> Value {
    json!({"parentRef": reference, "controllerName": controller, "conditions": accepted(since)})
}

#[test]
fn each_parent_of_ours_is_told_and_others_keep_theirs() {
    let gateway = json!({"name": "edge"});
    let waypoint = json!({"name": "wp"});
    let theirs = entry(&gateway, "example.com/other", "then");
    let told = [
        Condition::met("Accepted", "R", "m").about("Service/shop/web:80"),
        Condition::unmet("Accepted", "NoMatchingParent", "x").about("Gateway/shop/edge"),
        Condition::unmet("Accepted", "NoMatchingParent", "y").about("Gateway/shop/wp"),
    ];
    let of = |object: &Value| wanted(Kind::HTTPRoute, &told, object, |_, name| name == "wp", &STAMP);
    let all = [gateway, of_service(), waypoint];
    let found = of(&route(&all, std::slice::from_ref(&theirs))).expect("new");
    let parents = found["parents"].as_array().expect("a list");
    assert_eq!(parents.len(), 3, "{parents:?}");
    assert_eq!(parents[0], theirs);
    assert_eq!(parents[1], entry(&of_service(), CONTROLLER, "now"));
    assert_eq!(parents[2]["conditions"][0]["reason"], "NoMatchingParent");
    assert_eq!(of(&route(&all, parents)), None, "it is as it should be");
}

#[test]
fn what_is_not_said_any_more_is_removed() {
    let ours = entry(&of_service(), CONTROLLER, "then");
    let of = |parents: &[Value], told: &[Condition]| {
        wanted(Kind::HTTPRoute, told, &route(parents, std::slice::from_ref(&ours)), |_, _| false, &STAMP)
    };
    assert_eq!(of(&[], &[]), Some(json!({"parents": []})));
    assert_eq!(of(&[of_service()], &[]), Some(json!({"parents": []})));
    assert_eq!(of(&[of_service()], &[Condition::met("Accepted", "R", "m").about("Service/shop/web:80")]), None);
}

#[test]
fn parents_are_named_as_the_index_names_them() {
    let target = |kind: &str| match kind {
        "Service" => ParentTarget::Service { namespace: "a".into(), name: "b".into() },
        "ServiceEntry" => ParentTarget::ServiceEntry { namespace: "a".into(), name: "b".into() },
        _ => ParentTarget::Gateway { namespace: "a".into(), name: "b".into() },
    };
    for (kind, group) in [("Service", ""), ("ServiceEntry", "networking.istio.io"), ("Gateway", GATEWAY_API)] {
        for section in [None, Some("s")] {
            for port in [None, Some(80)] {
                let parent = Parent { target: target(kind), port, section: section.map(Into::into) };
                let reference = json!({"group": group, "kind": kind, "namespace": "a", "name": "b", "sectionName": section, "port": port});
                assert_eq!(Named::of(&reference, Kind::HTTPRoute, "x").text(Kind::HTTPRoute), *parent.text());
            }
        }
    }
    for section in [None, Some("s")] {
        let target = Target { kind: TargetKind::Service, name: "b".into(), section: section.map(Into::into) };
        let reference = json!({"kind": "Service", "name": "b", "sectionName": section});
        assert_eq!(Named::of(&reference, Kind::TrafficPolicy, "a").text(Kind::TrafficPolicy), target.to_string());
    }
}

#[test]
fn policies_have_no_more_ancestors_than_their_definition_takes() {
    let reference = |n: usize| json!({"group": "", "kind": "Service", "name": format!("s{n}")});
    let references: Vec<Value> = (0..40).map(reference).collect();
    let told: Vec<Condition> =
        (0..40).map(|n| Condition::met("Accepted", "R", "m").about(format!("Service/s{n}"))).collect();
    let object = json!({"metadata": {"namespace": "shop"}, "spec": {"targetRefs": references}});
    let found = wanted(Kind::TrafficPolicy, &told, &object, |_, _| false, &STAMP).expect("new");
    assert_eq!(found["ancestors"].as_array().map(Vec::len), Some(16));
    assert_eq!(found["ancestors"][0]["ancestorRef"], reference(0));
}
