use super::*;

const STAMP: Stamp<'_> = Stamp { now: "now", generation: Some(1) };

fn gateway(status: Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "wp"},
        "spec": {"listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
        "status": status,
    })
}

fn told() -> Vec<Condition> {
    vec![
        Condition::met("Accepted", "Accepted", "Resource accepted"),
        Condition::unmet("Programmed", "AddressNotAssigned", "as the index sees it"),
        Condition::met("Accepted", "Accepted", "No errors found").about("listener mesh"),
        Condition::met("Programmed", "Programmed", "No errors found").about("listener mesh"),
    ]
}

fn around(served: Served) -> Around {
    let addresses = vec!["10.0.0.1".parse().expect("an address")];
    let service = DeployedService { hostname: "wp.shop.svc.cluster.local".into(), addresses, served };
    Around { service, ..Around::default() }
}

fn reason<'a>(status: &'a Value, kind: &str) -> &'a str {
    let all = list(&status["conditions"]);
    all.iter().find(|condition| condition["type"] == kind).and_then(|it| it["reason"].as_str()).unwrap_or_default()
}

#[test]
fn a_waypoint_is_programmed_when_a_pod_is_ready_and_stays_so_while_its_service_is_there() {
    let said =
        json!([{"type": "IPAddress", "value": "10.0.0.1"}, {"type": "Hostname", "value": "wp.shop.svc.cluster.local"}]);
    for (what, served, before, addresses, expected) in [
        ("no service", Served::Missing, json!([]), json!([]), "UnsupportedAddress"),
        ("no pod", Served::NotReady, json!([]), json!([]), "AddressNotAssigned"),
        ("ready", Served::Ready, json!([]), said.clone(), "Programmed"),
        ("not ready any more", Served::NotReady, said.clone(), said.clone(), "Programmed"),
        ("its service went", Served::Missing, said, json!([]), "UnsupportedAddress"),
    ] {
        let status = wanted(&told(), &around(served), &gateway(json!({"addresses": before})), &STAMP).expect(what);
        assert_eq!(status["addresses"], addresses, "{what}");
        assert_eq!(reason(&status, "Programmed"), expected, "{what}");
    }
}

#[test]
fn what_was_written_is_not_written_again() {
    let around = around(Served::Ready);
    let mut status = wanted(&told(), &around, &gateway(json!({})), &STAMP).expect("new");
    status["conditions"].as_array_mut().expect("a list").push(json!({"type": "Foreign"}));
    let later = Stamp { now: "later", generation: Some(1) };
    assert_eq!(wanted(&told(), &around, &gateway(status.clone()), &later), None);
    let newer = Stamp { now: "later", generation: Some(2) };
    let again = wanted(&told(), &around, &gateway(status), &newer).expect("of a newer generation");
    assert_eq!(again["conditions"][0]["lastTransitionTime"], "now");
}

#[test]
fn a_failure_of_the_deployment_is_said() {
    let failure = Condition::unmet("Accepted", "InvalidParameters", "ConfigMap shop/p, entry x: no");
    let around = Around { failure: Some(failure), ..around(Served::Ready) };
    let status = wanted(&told(), &around, &gateway(json!({})), &STAMP).expect("new");
    assert_eq!(reason(&status, "Accepted"), "InvalidParameters");
}

#[test]
fn listeners_count_their_routes() {
    let around = Around { attached: BTreeMap::from([("mesh".into(), 2)]), ..around(Served::Ready) };
    let status = wanted(&told(), &around, &gateway(json!({})), &STAMP).expect("new");
    let listener = &status["listeners"][0];
    assert_eq!(listener["attachedRoutes"], 2);
    assert_eq!(listener["supportedKinds"][1]["kind"], "HTTPRoute");
    assert_eq!(list(&listener["conditions"]).len(), 3);
}

#[test]
fn the_features_of_the_class_are_sorted() {
    assert!(FEATURES.is_sorted());
    let accepted = [Condition::met("Accepted", "Accepted", "m")];
    let status = wanted_of_class(&accepted, &json!({}), &STAMP).expect("new");
    assert_eq!(wanted_of_class(&accepted, &json!({ "status": status }), &STAMP), None);
    assert_eq!(wanted_of_class(&[], &json!({}), &STAMP), None, "it is another's");
}
