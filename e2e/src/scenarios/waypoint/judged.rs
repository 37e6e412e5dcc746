//! Generated policies over requests, and what then really happens on the wire: each request must end
//! as a slow reading of the same policies, word for word, says it must, and the log of the waypoint names
//! the policies that only watch: those of action AUDIT, and those on trial.

use super::{CLIENT, GUEST, ask};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use testkit::reference::{
    Condition, Dice, Fields, Policy, Rule,
    request::{self, Http, Request},
};

/// Requests that are sent; two under each set of policies.
const REQUESTS: u64 = 200;
/// The same on a cluster, where it is the same program that decides, and each change takes a command or two.
const REQUESTS_ON_CLUSTER: u64 = 80;
/// The first seed; a failure names its own.
const FIRST_SEED: u64 = 8_000;

const PATHS: [&str; 6] = ["/", "/admin", "/admin/users", "/admin/users/7", "/data", "/Admin"];
const PATH_PATTERNS: [&str; 7] = ["/admin", "/admin*", "/admin/{*}", "/admin/{**}", "*/7", "/", "*"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const HOSTS: [&str; 3] = ["store.mall", "*.mall", "other.example"];
const USERS: [&str; 3] = ["ann", "bob", "annabel"];
const ACCOUNTS: [[&str; 2]; 2] = [["mall", "client"], ["visitors", "guest"]];
const ACCOUNT_PATTERNS: [&str; 4] = ["client", "mall/client", "visitors/guest", "guest"];
const PORTS: [&str; 3] = ["80", "8080", "90"];
/// Not honoured: a policy that asks for one is closed. Where there is admission it is not let in.
const TRUST_DOMAINS: &str = "trustDomains";
/// What has to be among what is generated, or little is shown.
const FIELDS: [&str; 14] = [
    "principals",
    "namespaces",
    "ipBlocks",
    "remoteIpBlocks",
    "serviceAccounts",
    TRUST_DOMAINS,
    "paths",
    "methods",
    "hosts",
    "ports",
    "source.ip",
    "destination.port",
    "request.headers[x-user]",
    "remote.ip",
];

fn values(dice: &mut Dice, of: &[&str]) -> Vec<String> {
    (0..1 + dice.under(2)).map(|_| (*dice.one(of)).to_owned()).collect()
}

fn negated(dice: &mut Dice, positive: &'static str, negative: &'static str) -> &'static str {
    if dice.once_in(3) { negative } else { positive }
}

/// What policies here can be about.
struct Scope {
    /// Addresses of the callers, around one of them, and of everybody.
    blocks: Vec<String>,
    /// What is not honoured too.
    all_fields: bool,
}

impl Scope {
    fn of(stage: &Stage) -> Result<Self> {
        let mut blocks = vec!["0.0.0.0/0".to_owned(), "240.0.0.0/4".to_owned()];
        for pod in [CLIENT, GUEST] {
            let address = stage.pod_addresses(pod)?[0];
            blocks.extend([address.to_string(), format!("{address}/24")]);
        }
        Ok(Self { blocks, all_fields: !stage.is_cluster() })
    }

    fn blocks(&self, dice: &mut Dice) -> Vec<String> {
        (0..1 + dice.under(2)).map(|_| dice.one(&self.blocks).clone()).collect()
    }
}

fn source(dice: &mut Dice, scope: &Scope) -> Fields {
    let [namespace, account] = *dice.one(&ACCOUNTS);
    let principal = format!("cluster.local/ns/{namespace}/sa/{account}");
    let (name, values) = match dice.under(if scope.all_fields { 11 } else { 10 }) {
        0 | 1 => (negated(dice, "principals", "notPrincipals"), vec![principal]),
        2 | 3 => (negated(dice, "namespaces", "notNamespaces"), vec![namespace.to_owned()]),
        4 | 5 => (negated(dice, "ipBlocks", "notIpBlocks"), scope.blocks(dice)),
        6 | 7 => (negated(dice, "remoteIpBlocks", "notRemoteIpBlocks"), scope.blocks(dice)),
        8 | 9 => (negated(dice, "serviceAccounts", "notServiceAccounts"), values(dice, &ACCOUNT_PATTERNS)),
        _ => (TRUST_DOMAINS, vec!["cluster.local".to_owned()]),
    };
    Fields::from([(name, values)])
}

fn operation(dice: &mut Dice) -> Fields {
    let mut fields = Fields::new();
    for _ in 0..1 + dice.under(2) {
        let (name, values) = match dice.under(4) {
            0 => (negated(dice, "paths", "notPaths"), values(dice, &PATH_PATTERNS)),
            1 => (negated(dice, "methods", "notMethods"), values(dice, &METHODS)),
            2 => (negated(dice, "ports", "notPorts"), values(dice, &PORTS)),
            _ => (negated(dice, "hosts", "notHosts"), values(dice, &HOSTS)),
        };
        fields.insert(name, values);
    }
    fields
}

fn rule(dice: &mut Dice, scope: &Scope) -> Rule {
    let mut rule = Rule::default();
    if dice.once_in(2) {
        rule.from.push(source(dice, scope));
    }
    if !dice.once_in(3) {
        rule.to.push(operation(dice));
    }
    if dice.once_in(3) {
        let (key, some) = match dice.under(5) {
            0 => ("source.ip", scope.blocks(dice)),
            1 => ("remote.ip", scope.blocks(dice)),
            2 => ("destination.port", values(dice, &PORTS)),
            _ => ("request.headers[x-user]", values(dice, &["ann", "ann*", "*bob", "*"])),
        };
        let (values, not_values) = if dice.once_in(4) { (Vec::new(), some) } else { (some, Vec::new()) };
        rule.when.push(Condition { key, values, not_values });
    }
    rule
}

fn policy(dice: &mut Dice, name: String, scope: &Scope) -> Policy {
    let action = dice.one::<&str>(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
    let dry_run = dice.once_in(5);
    let rules = (0..1 + dice.under(2)).map(|_| rule(dice, scope)).collect();
    Policy { namespace: "mall".into(), name, action, rules, dry_run, ..Policy::default() }
}

/// The same, as it counts: what asks for something that is not honoured allows nothing, or refuses, also where it
/// was only to be tried; an AUDIT policy just hits nothing.
fn counting(policy: &Policy) -> Policy {
    let asks = policy.rules.iter().flat_map(|rule| &rule.from).any(|source| source.contains_key(TRUST_DOMAINS));
    let (rules, dry_run) = match (asks, policy.action) {
        (false, _) => (policy.rules.clone(), policy.dry_run),
        (true, "DENY") => (vec![Rule::default()], false),
        (true, _) => (Vec::new(), false),
    };
    Policy { rules, dry_run, ..policy.clone() }
}

/// What a policy asks for, without the `not` of a field.
fn asked_for(policy: &Policy) -> impl Iterator<Item = String> {
    let fields = policy.rules.iter().flat_map(|rule| rule.from.iter().chain(&rule.to)).flat_map(BTreeMap::keys);
    let plain = |name: &&'static str| match name.strip_prefix("not") {
        Some(rest) => format!("{}{}", rest[..1].to_lowercase(), &rest[1..]),
        None => (*name).to_owned(),
    };
    let keys = policy.rules.iter().flat_map(|rule| &rule.when).map(|condition| condition.key.to_owned());
    fields.map(plain).chain(keys).collect::<Vec<_>>().into_iter()
}

/// Policies that only watch, and whom they saw: (what the log says, policy, caller).
type Watched = BTreeSet<(&'static str, String, String)>;

const AUDITED: &str = "an AUDIT policy hit";
const ON_TRIAL: &str = "a dry-run policy would have hit";

/// Those that the log of the waypoint names, of these.
fn watched(log: &str, names: &BTreeSet<String>) -> Watched {
    let mut found = Watched::new();
    for line in log.lines() {
        let Some(what) = [AUDITED, ON_TRIAL].into_iter().find(|what| line.contains(what)) else { continue };
        let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || "-./:".contains(c))).collect();
        let caller = words.iter().find(|word| word.starts_with("spiffe://"));
        let policy = words.iter().find(|word| names.contains(**word));
        if let (Some(caller), Some(policy)) = (caller, policy) {
            found.insert((what, (*policy).to_owned(), (*caller).to_owned()));
        }
    }
    found
}

/// A policy as it is applied: for the service `store`.
fn manifest(policy: &Policy) -> String {
    policy.manifest().replacen("  rules:", "  targetRefs: [{group: '', kind: Service, name: store}]\n  rules:", 1)
}

/// A route of another service, told after the policies: where it is in force, so are they.
fn marker(seed: u64) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: marker, namespace: mall }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: store-v2, port: 80 }}]\n  rules:\n\
         \x20   - filters: [{{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-seed, value: \
         '{seed}' }}] }} }}]\n      backendRefs: [{{ name: store-v2, port: 80 }}]\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let waypoint = super::waypoints(stage)?.pop().context("the mall has a waypoint")?;
    let scope = Scope::of(stage)?;
    let requests = if stage.is_cluster() { REQUESTS_ON_CLUSTER } else { REQUESTS };
    // So many of a hundred requests, at least.
    let share = |of_a_hundred: u64| usize::try_from(requests * of_a_hundred / 100).unwrap_or(usize::MAX);
    let (mut passed, mut refused, mut expected_watched) = (0_usize, 0_usize, Watched::new());
    let (mut names, mut used) = (BTreeSet::new(), BTreeMap::<String, usize>::new());
    for seed in FIRST_SEED..FIRST_SEED + requests / 2 {
        let mut dice = Dice::seeded(seed);
        let policies: Vec<Policy> =
            (0..1 + dice.under(3)).map(|n| policy(&mut dice, format!("p{seed}-{n}"), &scope)).collect();
        let manifests: String = policies.iter().map(manifest).collect();
        names.extend(policies.iter().map(|policy| policy.name.clone()));
        for policy in &policies {
            let kind = if policy.dry_run { "dry-run" } else { policy.action };
            asked_for(policy).chain([kind.to_owned()]).for_each(|it| *used.entry(it).or_default() += 1);
        }
        let counting: Vec<Policy> = policies.iter().map(counting).collect();
        stage.apply(&manifests)?;
        stage.apply(&marker(seed))?;
        stage.wait("the policies are in force", super::RULES_DEADLINE, |stage| {
            Ok(ask(stage, CLIENT, "http://store-v2.mall/", &[])?.header("x-seed") == seed.to_string())
        })?;
        for (pod, [namespace, account]) in [CLIENT, GUEST].into_iter().zip(ACCOUNTS) {
            let (path, method, user) = (*dice.one(&PATHS), *dice.one(&METHODS), *dice.one(&USERS));
            let asked = Request {
                caller: Some(["cluster.local", namespace, account].map(String::from)),
                source: stage.pod_addresses(pod)?[0],
                destination: stage.pod_addresses("mall/store-v1")?[0],
                port: 80,
                server_name: None,
                http: Some(Http {
                    authority: "store.mall".into(),
                    method: method.into(),
                    path: path.into(),
                    headers: BTreeMap::from([("x-user".into(), user.into())]),
                    remote: stage.pod_addresses(pod)?[0],
                    claims: BTreeMap::new(),
                }),
            };
            let answer = request::answer(&counting, &asked);
            let expected = if answer.allowed { 200 } else { 403 };
            let caller = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
            for (what, policies) in [(AUDITED, answer.audits), (ON_TRIAL, answer.trials)] {
                expected_watched.extend(policies.into_iter().map(|policy| (what, policy, caller.clone())));
            }
            let header = format!("x-user: {user}");
            let answer = ask(stage, pod, &format!("http://store.mall{path}"), &["-4", "-X", method, "-H", &header])?;
            ensure!(
                answer.status == expected,
                "seed {seed}: {pod} {method} {path} as {user}: {}, not {expected}, under\n{manifests}",
                answer.status
            );
            *if expected == 200 { &mut passed } else { &mut refused } += 1;
        }
        stage.delete(&manifests)?;
    }
    stage.delete(&marker(0))?;
    ensure!(passed > share(20) && refused > share(20), "the policies say little: {passed} passed, {refused} refused");
    let mut found = Watched::new();
    let waited = stage.wait("policies that only watch are in the log", Duration::from_secs(10), |stage| {
        found = watched(&stage.logs(&waypoint)?, &names);
        Ok(found.is_superset(&expected_watched))
    });
    waited.with_context(|| format!("missing: {:?}", expected_watched.difference(&found).collect::<Vec<_>>()))?;
    let more: Vec<_> = found.difference(&expected_watched).collect();
    ensure!(more.is_empty(), "policies that should not have hit: {more:?}");
    let generated = |field: &&&str| scope.all_fields || **field != TRUST_DOMAINS;
    for wanted in FIELDS.iter().filter(generated).chain(&["ALLOW", "DENY", "AUDIT", "dry-run"]) {
        ensure!(
            used.get(*wanted).is_some_and(|times| *times > share(1)),
            "{wanted} is hardly among the policies: {used:?}"
        );
    }
    let audited = found.iter().filter(|(what, ..)| *what == AUDITED).count();
    ensure!(audited > share(2) + 1 && found.len() - audited > share(2) + 1, "few policies only watched: {found:?}");
    seen.push(format!(
        "{audited} times an AUDIT policy hit, {} times one on trial would have: the log names exactly these",
        found.len() - audited
    ));
    seen.push(format!(
        "{requests} requests under generated policies: {passed} passed, {refused} refused, all as the reference says"
    ));
    Ok(())
}
