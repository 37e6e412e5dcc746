use super::*;

const OWNED: &str = "02-istio-cni.conflist";

fn manner(owns: bool) -> Manner {
    let plugin = Plugin { run_dir: "/run".into(), ..Plugin::default() };
    Manner { conf_name: None, owns, owned: OWNED.into(), plugin }
}

fn list(types: &str) -> String {
    let plugins: Vec<String> = types.split_whitespace().map(|one| format!(r#"{{"type":"{one}"}}"#)).collect();
    format!(r#"{{"cniVersion":"1.0.0","name":"net","plugins":[{}]}}"#, plugins.join(","))
}

fn single(of: &str) -> String {
    format!(r#"{{"cniVersion":"0.3.1","name":"net","type":"{of}"}}"#)
}

fn files(pairs: &[(&str, String)]) -> Files {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), Ok(text.clone()))).collect()
}

fn done(mut files: Files, acts: &[Act]) -> Files {
    for act in acts {
        match act {
            Act::Write { name, text } => drop(files.insert(name.clone(), Ok(text.clone()))),
            Act::Remove { name } => drop(files.remove(name)),
        }
    }
    files
}

/// `name: type type, name: …` of all files that can be read.
fn shape(files: &Files) -> String {
    let one = |(name, text): (&String, &Result<String, String>)| {
        let value: serde_json::Value = serde_json::from_str(text.as_ref().ok()?).ok()?;
        let plugins = value.get("plugins").and_then(|plugins| plugins.as_array()).cloned();
        let types = plugins.unwrap_or_else(|| vec![value]);
        let types: Vec<&str> = types.iter().map(|plugin| plugin["type"].as_str().unwrap_or("?")).collect();
        Some(format!("{name}: {}", types.join(" ")))
    };
    files.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// Does what is planned, sees that it is enough, and gives what there is then.
fn installed(before: &Files, manner: &Manner) -> Result<Files, Obstacle> {
    let plan = install(before, manner);
    let after = done(before.clone(), &plan.acts);
    plan.standing?;
    assert_eq!(install(&after, manner), Plan { acts: vec![], standing: Ok(()) }, "once is enough for {before:?}");
    Ok(after)
}

#[test]
fn the_first_file_that_can_be_used_is_followed() {
    for (there, chained, owned) in [
        (
            vec![("10-flannel.conflist", list("flannel portmap"))],
            "10-flannel.conflist: flannel portmap istio-cni",
            "02-istio-cni.conflist: flannel portmap istio-cni, 10-flannel.conflist: flannel portmap",
        ),
        (
            vec![("10-bridge.conf", single("bridge"))],
            "10-bridge.conflist: bridge istio-cni",
            "02-istio-cni.conflist: bridge istio-cni, 10-bridge.conf: bridge",
        ),
        (
            vec![("10-calico.conflist", list("calico")), ("87-podman.conflist", list("bridge tuning"))],
            "10-calico.conflist: calico istio-cni, 87-podman.conflist: bridge tuning",
            "02-istio-cni.conflist: calico istio-cni, 10-calico.conflist: calico, 87-podman.conflist: bridge tuning",
        ),
        (
            vec![(".hidden.conflist", list("x")), ("00-note.txt", list("x")), ("10-ptp.conflist", list("ptp"))],
            ".hidden.conflist: x, 00-note.txt: x, 10-ptp.conflist: ptp istio-cni",
            ".hidden.conflist: x, 00-note.txt: x, 02-istio-cni.conflist: ptp istio-cni, 10-ptp.conflist: ptp",
        ),
    ] {
        let before = files(&there);
        let after = installed(&before, &manner(false)).unwrap();
        assert_eq!(shape(&after), chained);
        let restored = done(after.clone(), &uninstall(&after, OWNED));
        assert!(!shape(&restored).contains("istio-cni"), "{}", shape(&restored));
        let after = installed(&before, &manner(true)).unwrap();
        assert_eq!(shape(&after), owned);
        assert_eq!(done(after.clone(), &uninstall(&after, OWNED)), before, "nothing is left");
    }
}

#[test]
fn what_another_program_writes_is_followed_again() {
    let before = files(&[("10-flannel.conflist", list("flannel"))]);
    for owns in [false, true] {
        let mut now = installed(&before, &manner(owns)).unwrap();
        now.insert("10-flannel.conflist".into(), Ok(list("flannel portmap")));
        let now = installed(&now, &manner(owns)).unwrap();
        assert!(shape(&now).contains("flannel portmap istio-cni"), "{}", shape(&now));
    }
}

#[test]
fn a_file_that_comes_before_is_followed_instead() {
    let mut now = installed(&files(&[("10-flannel.conflist", list("flannel"))]), &manner(false)).unwrap();
    now.insert("05-cilium.conflist".into(), Ok(list("cilium")));
    let now = installed(&now, &manner(false)).unwrap();
    assert_eq!(shape(&now), "05-cilium.conflist: cilium istio-cni, 10-flannel.conflist: flannel");
}

#[test]
fn the_file_of_our_own_stays_while_the_one_it_follows_is_away() {
    let mut now = installed(&files(&[("05-cilium.conflist", list("cilium"))]), &manner(true)).unwrap();
    now.remove("05-cilium.conflist");
    let now = installed(&now, &manner(true)).unwrap();
    assert_eq!(shape(&now), "02-istio-cni.conflist: cilium istio-cni");
}

#[test]
fn one_manner_takes_over_from_the_other() {
    let there = files(&[("10-flannel.conflist", list("flannel"))]);
    let owned = installed(&there, &manner(true)).unwrap();
    let chained = installed(&owned, &manner(false)).unwrap();
    assert_eq!(shape(&chained), "10-flannel.conflist: flannel istio-cni");
    assert_eq!(shape(&installed(&chained, &manner(true)).unwrap()), shape(&owned));
}

#[test]
fn what_is_in_the_way_is_told() {
    let says = |files: &Files, manner: &Manner| installed(files, manner).unwrap_err().to_string();
    let named = |name: &str, owns| Manner { conf_name: Some(name.into()), ..manner(owns) };
    assert!(says(&Files::new(), &manner(false)).contains("no CNI configuration is there yet"));
    assert!(says(&Files::new(), &manner(true)).contains("no CNI configuration is there yet"));
    let old = files(&[("10-old.conf", r#"{"type":"bridge"}"#.to_owned())]);
    assert!(says(&old, &manner(false)).contains("10-old.conf cannot be followed: its cniVersion is \"\""));
    let mut broken = files(&[]);
    broken.insert("10-a.conflist".into(), Err("it is 2 MiB long".into()));
    assert!(says(&broken, &manner(false)).contains("it is 2 MiB long"));
    broken.insert("20-b.conflist".into(), Ok(list("ptp")));
    assert!(installed(&broken, &manner(false)).is_ok(), "the next one counts");
    let two = files(&[("00-first.conflist", list("a")), ("10-second.conflist", list("b"))]);
    assert!(says(&two, &manner(true)).contains("00-first.conflist comes before 02-istio-cni.conflist"));
    assert!(says(&two, &named("10-second.conflist", false)).contains("00-first.conflist comes before it"));
    assert!(says(&two, &named("30-none.conflist", false)).contains("no CNI configuration is there yet"));
}

#[test]
fn a_named_file_is_followed_also_when_it_became_a_list() {
    let named = Manner { conf_name: Some("10-bridge.conf".into()), ..manner(false) };
    let after = installed(&files(&[("10-bridge.conf", single("bridge")), ("20-x.conflist", list("x"))]), &named);
    assert_eq!(shape(&after.unwrap()), "10-bridge.conflist: bridge istio-cni, 20-x.conflist: x");
}
