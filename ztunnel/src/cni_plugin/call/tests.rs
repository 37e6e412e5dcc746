use super::*;
use crate::agent::cni;
use std::collections::BTreeMap;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn added(namespace: &str, name: &str) -> Add {
    Add::read(
        "/var/run/netns/n".into(),
        &format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=1;K8S_POD_UID=u"
        ),
    )
}

/// A configuration of a version, with a result.
fn configured(version: &str, result: &str) -> String {
    format!(
        r#"{{"cniVersion":"{version}","name":"cbr0","type":"istio-cni","cni_agent_run_dir":"/run/x","exclude_namespaces":["kube-system"],"pod_namespace":"istio-system","agent_pod_prefix":"istio-cni-node-","prevResult":{result}}}"#
    )
}

const OLD: &str = r#"{"cniVersion":"0.3.1","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/n"}],"ips":[{"version":"4","interface":1,"address":"10.0.0.7/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{},"somethingNew":[1]}"#;
const NEW: &str =
    r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"},{"address":"fd00::7/64"}]}"#;

#[test]
fn a_call_is_told_from_its_environment() {
    for (command, expected) in [
        ("DEL", Command::Del),
        ("CHECK", Command::Check),
        ("STATUS", Command::Status),
        ("GC", Command::Gc),
        ("VERSION", Command::Version),
    ] {
        assert_eq!(Command::read(&environment(&[("CNI_COMMAND", command)])), Ok(expected));
    }
    let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u";
    let add = environment(&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "/var/run/netns/n"), ("CNI_ARGS", args)]);
    assert_eq!(Command::read(&add), Ok(Command::Add(added("shop", "web"))));
    for wrong in [&[][..], &[("CNI_COMMAND", "UPDATE")], &[("CNI_COMMAND", "ADD")]] {
        assert_eq!(Command::read(&environment(wrong)).unwrap_err().code, 4, "{wrong:?}");
    }
}

#[test]
fn the_agent_understands_what_it_is_asked() {
    for (version, result, addresses) in [("0.3.1", OLD, "10.0.0.7"), ("1.0.0", NEW, "10.0.0.7 fd00::7")] {
        let call = Call::read(added("shop", "web"), &configured(version, result)).unwrap();
        let Decision::Ask(request) = call.decide().unwrap() else { panic!("it is not asked") };
        let announced = cni::parse(request.as_bytes()).unwrap();
        assert_eq!(announced.pod.to_string(), "shop/web");
        assert_eq!(announced.netns.to_str(), Some("/var/run/netns/n"));
        assert_eq!(announced.uid.as_deref(), Some("u"));
        let found: Vec<String> = announced.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), addresses);
        assert_eq!(call.socket().to_str(), Some("/run/x/pluginevent.sock"));
    }
}

#[test]
fn the_request_is_as_istios_plugin_writes_it() {
    let call = Call::read(added("shop", "web"), &configured("0.3.1", OLD)).unwrap();
    let Decision::Ask(request) = call.decide().unwrap() else { panic!("it is not asked") };
    let request: Value = serde_json::from_str(&request).unwrap();
    assert_eq!(
        request["IPs"],
        json!([{"Interface": 1, "Address": {"IP": "10.0.0.7", "Mask": "////AA=="}, "Gateway": "10.0.0.1"}])
    );
}

#[test]
fn the_result_is_passed_on_as_it_came() {
    for (version, result) in [("0.3.1", OLD), ("1.1.0", NEW)] {
        let call = Call::read(added("shop", "web"), &configured(version, result)).unwrap();
        assert_eq!(call.result().trim(), result);
    }
}

#[test]
fn only_what_the_agent_itself_needs_starts_without_it() {
    let passes = |namespace: &str, name: &str| {
        Call::read(added(namespace, name), &configured("1.0.0", NEW)).unwrap().decide().unwrap() == Decision::Pass
    };
    assert!(passes("kube-system", "coredns-1"));
    assert!(passes("istio-system", "istio-cni-node-x7k2p"));
    assert!(passes("", ""), "no pod");
    assert!(!passes("istio-system", "ztunnel-x7k2p"));
    assert!(!passes("istio-system", "istio-cni-node-of-mine-x7k2p"));
    assert!(!passes("shop", "istio-cni-node-x7k2p"));
    assert!(!passes("shop", "web"));
    assert!(!passes("kube-system-2", "web"));
    for (namespace, name) in [("shop", ""), ("", "web")] {
        let call = Call::read(added(namespace, name), &configured("1.0.0", NEW)).unwrap();
        assert_eq!(call.decide().unwrap_err().code, 4);
    }
    // An agent on the host's network has no pods here, and without a word nobody is excluded.
    let bare = r#"{"cniVersion":"1.0.0","type":"istio-cni","pod_namespace":"istio-system","agent_pod_prefix":"","prevResult":{"ips":[]}}"#;
    let call = |namespace| Call::read(added(namespace, "x"), bare).unwrap().decide().unwrap();
    assert!(matches!(call("istio-system"), Decision::Ask(_)) && matches!(call("kube-system"), Decision::Ask(_)));
}

#[test]
fn what_is_wrong_is_told_with_the_code_of_the_specification() {
    for (input, code) in [
        (String::new(), 6),
        ("[".into(), 6),
        (r#"{"cniVersion":"1.0.0","exclude_namespaces":"kube-system","prevResult":{}}"#.into(), 6),
        (configured("0.2.0", NEW), 1),
        (configured("2.0.0", NEW), 1),
        (r#"{"type":"istio-cni"}"#.into(), 1),
        (r#"{"cniVersion":"1.0.0","type":"istio-cni"}"#.into(), 7),
    ] {
        let error = Call::read(added("shop", "web"), &input).unwrap_err();
        assert_eq!(error.code, code, "{input}");
        let text: Value = serde_json::from_str(&error.text(version_of(&input).as_deref())).unwrap();
        assert_eq!(text["code"], code);
        assert!(text["msg"].as_str().unwrap().contains("istio-cni"));
        assert!(VERSIONS.contains(&text["cniVersion"].as_str().unwrap()));
    }
    let call = Call::read(added("shop", "web"), &configured("1.0.0", r#"{"ips":[{"address":"ten"}]}"#)).unwrap();
    assert_eq!(call.decide().unwrap_err().code, 6);
}

#[test]
fn versions_are_told() {
    let answer: Value = serde_json::from_str(&versions(r#"{"cniVersion":"0.4.0"}"#)).unwrap();
    assert_eq!(answer["cniVersion"], "0.4.0");
    assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), VERSIONS.len());
}
