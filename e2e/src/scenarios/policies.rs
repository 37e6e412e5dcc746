//! Generated policies, applied as a user would, and what then really happens on the wire: each call must end as a
//! slow reading of the same policies, word for word, says it must.

use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};
use testkit::reference::{self, Call, Cast, Dice, Pod, Policy};

/// Sets of policies.
const SETS: u64 = 50;
/// Each takes a second there, for the API server and kubectl.
const SETS_ON_CLUSTER: u64 = 25;
/// The set of the first seed; a failure names its own.
const FIRST_SEED: u64 = 7_000;
/// Both proxies know of a change by then.
const KNOWN: Duration = Duration::from_secs(10);
const CALLERS: [&str; 3] = ["shop/client", "shop/tools", "outside/client"];
const CALLED: [&str; 2] = ["shop/web-far", "shop/web-near"];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&[&CALLERS[..], &CALLED[..]].concat())?;
    stage.enrolled(&["shop/client", "shop/tools", "shop/web-far", "shop/web-near"], true)?;
    let cast = cast(stage)?;
    let (mut passed, mut refused) = (0, 0);
    let sets = if stage.is_cluster() { SETS_ON_CLUSTER } else { SETS };
    for seed in FIRST_SEED..FIRST_SEED + sets {
        let mut dice = Dice::seeded(seed);
        let count = 1 + dice.under(2);
        let policies: Vec<Policy> = (0..count).map(|n| cast.policy(&mut dice, &format!("p{seed}-{n}"))).collect();
        let manifests: String = policies.iter().map(Policy::manifest).collect();
        stage.apply(&manifests)?;
        known(stage, seed)?;
        for (caller, (identity, address)) in CALLERS.iter().zip(&cast.callers) {
            let called = dice.one(&cast.pods).clone();
            let call = Call { caller: identity.clone(), address: *address, port: *dice.one(&cast.ports) };
            let expected = reference::allowed(&policies, &cast.root_namespace, &called, &call);
            let target = std::net::SocketAddr::new(called.address, call.port);
            let really = stage.answers(caller, &target.to_string());
            ensure!(
                really == expected,
                "seed {seed}: {caller} to {target} should be allowed: {expected}, and is: {really}, under\n{manifests}"
            );
            *if really { &mut passed } else { &mut refused } += 1;
        }
        stage.delete(&manifests)?;
    }
    ensure!(passed > 10 && refused > 10, "the policies say little: {passed} passed, {refused} refused");
    seen.push(format!(
        "{sets} sets of policies on the wire: {passed} calls passed, {refused} refused, all as the reference says"
    ));
    Ok(())
}

/// Who calls and is called, with the addresses they have in this lab.
fn cast(stage: &Stage) -> Result<Cast> {
    let address = |pod: &str| -> Result<IpAddr> { Ok(stage.pod_addresses(pod)?[0]) };
    let mut pods = Vec::new();
    for pod in CALLED {
        let app = pod.trim_start_matches("shop/");
        pods.push(Pod {
            namespace: "shop".into(),
            name: app.into(),
            labels: BTreeMap::from([("app".into(), app.into())]),
            address: address(pod)?,
        });
    }
    let identity = |account: &str| Some(["cluster.local", "shop", account].map(String::from));
    let callers = [identity("client"), identity("server"), None].into_iter().zip(CALLERS);
    let callers = callers.map(|(identity, pod)| Ok((identity, address(pod)?))).collect::<Result<_>>()?;
    Ok(Cast { root_namespace: "istio-system".into(), pods, callers, ports: vec![8080, 8081] })
}

/// Waits until all proxies know everything that was applied so far: a service applied last is there.
fn known(stage: &mut Stage, seed: u64) -> Result<()> {
    let marker = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: marker, namespace: shop }}\n\
         spec: {{ selector: {{ app: nobody }}, ports: [{{ port: {} }}] }}\n",
        10_000 + seed % 10_000
    );
    stage.apply(&marker)?;
    for proxy in stage.proxies()? {
        stage.wait(&format!("{proxy} knows the marker of seed {seed}"), KNOWN, |s| {
            let dump = s.config_dump(&proxy)?;
            let mut services = dump["services"].as_array().into_iter().flatten();
            let port = (10_000 + seed % 10_000).to_string();
            Ok(services.any(|v| v["name"] == "marker" && v["ports"].get(&port).is_some()))
        })?;
    }
    Ok(())
}
