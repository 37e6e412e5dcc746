//! Backends that are good, slow, answer 503, reset or refuse, by lot for each request: how often each call was
//! tried, and what its caller was told, is what the policy says of the states that it met.

use super::{CLIENT, ask, counts, set_mode};
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

const V1: &str = "mall/store-v1";
const V2: &str = "mall/store-v2";
/// States follow from these: a failure can be had again.
const SEEDS: [u64; 2] = [20_261, 20_262];
/// A try more than these two further ones is never made.
const ATTEMPTS: usize = 2;

/// A rule of `host`, and what is answered by it is marked.
fn route(host: &str, mark: &str, rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: flips, namespace: mall }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: {host}, port: 80 }}]\n  rules:\n\
         \x20   - backendRefs: [{{ name: {host}, port: 80 }}]\n{rule}\
         \x20     filters: [{{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-flips, value: \
         '{mark}' }}] }} }}]\n"
    )
}

/// What is tried.
struct Round {
    what: &'static str,
    host: &'static str,
    method: &'static str,
    /// Beside the backends of the rule.
    rule: &'static str,
    /// Further objects.
    more: &'static str,
    /// How late slow answers are.
    slow_ms: u32,
    /// Slow answers are too late.
    too_late: bool,
    pods: &'static [&'static str],
}

const ROUNDS: [Round; 4] = [
    Round {
        what: "GET, 2 further tries",
        host: "store-v1",
        method: "GET",
        rule: "      retry: { codes: [503], attempts: 2, backoff: 1ms }\n",
        more: "",
        slow_ms: 50,
        too_late: false,
        pods: &[V1],
    },
    Round {
        what: "GET, 1 s a try",
        host: "store-v1",
        method: "GET",
        rule: "      timeouts: { request: 10s, backendRequest: 1s }\n      retry: { codes: [503, 504], attempts: 2, backoff: 1ms }\n",
        more: "",
        slow_ms: 4000,
        too_late: true,
        pods: &[V1],
    },
    Round {
        what: "POST",
        host: "store-v1",
        method: "POST",
        rule: "      retry: { codes: [500, 502, 503, 504], attempts: 2, backoff: 1ms }\n",
        more: "",
        slow_ms: 50,
        too_late: false,
        pods: &[V1],
    },
    Round {
        what: "GET to two endpoints, with ejection",
        host: "store",
        method: "GET",
        rule: "      retry: { codes: [503], attempts: 2, backoff: 1ms }\n",
        more: "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: flips, namespace: mall }
spec: { host: store, trafficPolicy: { outlierDetection: { consecutive5xxErrors: 3, interval: 500ms, baseEjectionTime: 500ms, maxEjectionPercent: 50 } } }
",
        slow_ms: 50,
        too_late: false,
        pods: &[V1, V2],
    },
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    for (mark, round) in ROUNDS.iter().enumerate() {
        let objects = route(round.host, &mark.to_string(), round.rule) + round.more;
        stage.apply(&objects)?;
        let url = format!("http://{}.mall/", round.host);
        stage.wait("the new rules are in force", super::RULES_DEADLINE, |stage| {
            Ok(ask(stage, CLIENT, &url, &[])?.header("x-flips") == mark.to_string())
        })?;
        let said = flipping(stage, round, &url);
        for pod in round.pods {
            stage.wait("it is good again", super::RULES_DEADLINE, |stage| Ok(set_mode(stage, pod, "good").is_ok()))?;
        }
        seen.push(format!("{}: {}", round.what, said.with_context(|| round.what)?));
        stage.delete(&objects)?;
    }
    Ok(())
}

fn flipping(stage: &mut Stage, round: &Round, url: &str) -> Result<String> {
    for (pod, seed) in round.pods.iter().zip(SEEDS) {
        counts(stage, pod)?;
        set_mode(stage, pod, &format!("flip={seed}&slow_ms={}", round.slow_ms))?;
    }
    let rate = if round.too_late { "25" } else { "150" };
    let load = [
        "requests",
        url,
        "--method",
        round.method,
        "--body",
        "2000",
        "--rate",
        rate,
        "--seconds",
        "8",
        "--call",
        "c",
        "--connections",
        "100",
        "--deadline",
        "15",
    ];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.failures() == 0, "every request is answered: {report:?}");
    let mut met: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in round.pods {
        let mut states = BTreeMap::new();
        // It may refuse to be asked just now.
        stage.wait("it says what it was asked", super::RULES_DEADLINE, |stage| {
            Ok(counts(stage, pod).map(|counts| states = counts.states).is_ok())
        })?;
        states.into_iter().for_each(|(call, states)| met.entry(call).or_default().push(states));
    }
    judge(round, &met, &report)
}

/// Whether a state is an answer that a caller is content with.
fn is_good(round: &Round, state: char) -> bool {
    state == 'g' || (state == 's' && !round.too_late)
}

/// Compares what calls met with what the policy makes of it. Connections that nobody took are tries, too, but no
/// backend has seen those: fewer tries than the policy has may be seen, never more.
fn judge(round: &Round, met: &BTreeMap<String, Vec<String>>, report: &requests::Report) -> Result<String> {
    let most = if round.method == "POST" { 1 } else { 1 + ATTEMPTS };
    let (mut answered, mut late, mut tries, mut again) = (0, 0, 0, 0);
    let mut kinds = BTreeMap::<char, u64>::new();
    for (call, states) in met {
        let all: String = states.concat();
        all.chars().for_each(|state| *kinds.entry(state).or_default() += 1);
        tries += all.len();
        again += usize::from(all.len() > 1);
        ensure!(all.len() <= most, "{call} was tried {} times, not {most} at most: {states:?}", all.len());
        let good = all.chars().filter(|state| is_good(round, *state)).count();
        ensure!(good <= 1, "{call} was tried again after it was answered: {states:?}");
        if states.len() == 1 && good == 1 {
            ensure!(
                all.ends_with(|state| is_good(round, state)),
                "{call} was tried again after it was answered: {all}"
            );
        }
        answered += good as u64;
        late += u64::from(round.too_late && all.ends_with('s') && all.len() == most);
    }
    ensure!(
        report.status(200) == answered,
        "{answered} calls met a good answer, {} callers: {report:?}",
        report.status(200)
    );
    ensure!(
        report.status(200) + report.status(503) + report.status(504) == report.due && report.status(504) >= late,
        "{late} at least were late: {report:?}"
    );
    ensure!(kinds.len() == 5, "each state is met: {kinds:?}");
    ensure!((round.method == "POST") == (again == 0), "{again} calls were tried again");
    Ok(format!(
        "{} calls met {kinds:?} in {tries} tries; {answered} answered with 200 as the policy has it, {} with 503, {} with 504, \
         none was tried more than {most} times",
        report.due,
        report.status(503),
        report.status(504)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(round: usize, states: &[&str], statuses: &[(u16, u64)]) -> Result<String> {
        let met = states.iter().enumerate().map(|(n, states)| (n.to_string(), vec![(*states).to_owned()])).collect();
        let due = statuses.iter().map(|(_, times)| times).sum();
        judge(
            &ROUNDS[round],
            &met,
            &requests::Report { due, statuses: statuses.iter().copied().collect(), ..Default::default() },
        )
    }

    #[test]
    fn what_the_policy_does_not_say_is_noticed() {
        let all = ["g", "s", "5g", "rxr"];
        judged(0, &all, &[(200, 3), (503, 1)]).unwrap();
        for (states, statuses) in [
            (&["g", "s", "5g", "rxr5"][..], &[(200, 3), (503, 1)][..]),
            (&["g5", "s", "5g", "rxr"], &[(200, 3), (503, 1)]),
            (&all, &[(200, 2), (503, 2)]),
            (&all, &[(200, 3), (500, 1)]),
            (&["g", "s", "5", "r"], &[(200, 2), (503, 2)]),
        ] {
            assert!(judged(0, states, statuses).is_err(), "{states:?} {statuses:?}");
        }
        judged(1, &["sg", "s5s", "5rx"], &[(200, 1), (504, 1), (503, 1)]).unwrap();
        assert!(judged(1, &["s", "s5s", "5rx"], &[(200, 1), (504, 1), (503, 1)]).is_err());
        judged(2, &["g", "s", "5", "r", "x"], &[(200, 2), (503, 3)]).unwrap();
        assert!(judged(2, &["g", "s", "5", "r", "xg"], &[(200, 3), (503, 2)]).is_err());
    }
}
