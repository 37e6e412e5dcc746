use super::*;

fn plugin() -> Plugin {
    Plugin {
        run_dir: "/var/run/istio-cni".into(),
        excluded_namespaces: vec!["kube-system".into()],
        agent_namespace: "istio-system".into(),
        agent_pods: "istio-cni-node-".into(),
    }
}

const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}"#;
const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","log_level":"info","mtu":0,"nodename_file_optional":false,"ipam":{"type":"calico-ipam","assign_ipv4":"true"},"policy":{"type":"k8s"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#;
const KINDNET: &str = r#"{"cniVersion":"0.3.1","name":"kindnet","plugins":[{"type":"ptp","ipMasq":false,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]},"mtu":1500},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const PODMAN: &str = r#"{"cniVersion":"1.0.0","name":"podman","disableCheck":true,"plugins":[{"type":"bridge","bridge":"cni-podman0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local"}},{"type":"tuning"}]}"#;
const MULTUS: &str = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","kubeconfig":"/k","delegates":[{"cniVersion":"0.3.1","name":"x","plugins":[]}]}"#;

fn types(conf: &Conf) -> Vec<&str> {
    conf.plugins().iter().map(|plugin| plugin.text("type").unwrap()).collect()
}

#[test]
fn our_plugin_comes_last_and_goes_without_a_trace() {
    for (text, expected) in [
        (FLANNEL, &["flannel", "portmap", "istio-cni"][..]),
        (CALICO, &["calico", "portmap", "bandwidth", "istio-cni"]),
        (KINDNET, &["ptp", "portmap", "istio-cni"]),
        (PODMAN, &["bridge", "tuning", "istio-cni"]),
    ] {
        let before = Conf::read(text).unwrap();
        assert!(!before.has_ours() && before.has_others());
        let with = before.clone().with(&plugin());
        assert_eq!(types(&with), expected);
        assert!(with.has_ours());
        assert_eq!(Conf::read(&with.text()).unwrap(), with, "what is written is what is read");
        assert_eq!(with.clone().with(&plugin()), with, "twice is once");
        assert_eq!(with.without().text(), before.text());
    }
}

#[test]
fn order_and_unknown_fields_stay() {
    let written = Conf::read(CALICO).unwrap().with(&plugin()).text();
    let squeezed: String = written.split_whitespace().collect();
    let (kept, ours) = squeezed.split_once(r#",{"name":"istio-cni""#).unwrap();
    assert_eq!(kept, &CALICO[..CALICO.len() - 2]);
    assert_eq!(
        ours,
        r#","type":"istio-cni","ambient_enabled":true,"cni_agent_run_dir":"/var/run/istio-cni","exclude_namespaces":["kube-system"],"pod_namespace":"istio-system","agent_pod_prefix":"istio-cni-node-"}]}"#
    );
}

#[test]
fn a_single_plugin_becomes_a_list() {
    let conf = Conf::read(MULTUS).unwrap().with(&plugin());
    assert_eq!(types(&conf), ["multus", "istio-cni"]);
    assert_eq!(conf.json.text("cniVersion"), Some("0.3.1"));
    assert_eq!(conf.json.text("name"), Some("multus-cni-network"));
    assert!(conf.plugins()[0].member("delegates").is_some());
}

#[test]
fn an_older_one_of_ours_is_replaced_where_it_stands() {
    let other = Plugin { run_dir: "/old".into(), ..plugin() };
    let mut old = Conf::read(FLANNEL).unwrap().with(&other);
    // Somebody came after us: there is no race for the last place.
    old.json.list_mut("plugins").unwrap().push(Json::Members(vec![("type".into(), "cilium".into())]));
    let now = old.with(&plugin());
    assert_eq!(types(&now), ["flannel", "portmap", "istio-cni", "cilium"]);
    assert_eq!(now.plugins()[2].text("cni_agent_run_dir"), Some("/var/run/istio-cni"));
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    let version = |text: &str| ConfError::Version(text.to_owned());
    for (text, expected) in [
        (r#"{"cniVersion":"0.3.1","name":"x"}"#, ConfError::NoPlugins),
        (r#"{"cniVersion":"0.3.1","name":"x","plugins":[]}"#, ConfError::NoPlugins),
        (r#"{"cniVersion":"0.2.0","type":"bridge"}"#, version("0.2.0")),
        (r#"{"type":"bridge"}"#, version("")),
        (r#"{"cniVersion":"new","type":"bridge"}"#, version("new")),
        ("[]", version("")),
    ] {
        assert_eq!(Conf::read(text), Err(expected), "{text}");
    }
    for text in ["", "{", "no", "{\"cniVersion\":\"1.0.0\",}"] {
        assert!(matches!(Conf::read(text), Err(ConfError::Json(_))), "{text}");
    }
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        assert!(Conf::read(&format!(r#"{{"cniVersion":"{version}","type":"bridge"}}"#)).is_ok(), "{version}");
    }
}
