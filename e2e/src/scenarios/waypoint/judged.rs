//! Generated policies over requests, and what then really happens on the wire: each request must end
//! as a slow reading of the same policies, word for word, says it must.

use super::{CLIENT, GUEST, ask};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use testkit::reference::{
    Condition, Dice, Fields, Policy, Rule,
    request::{self, Http, Request},
};

/// Requests that are sent; two under each set of policies.
const REQUESTS: u64 = 200;
/// The first seed; a failure names its own.
const FIRST_SEED: u64 = 8_000;

const PATHS: [&str; 6] = ["/", "/admin", "/admin/users", "/admin/users/7", "/data", "/Admin"];
const PATH_PATTERNS: [&str; 7] = ["/admin", "/admin*", "/admin/{*}", "/admin/{**}", "*/7", "/", "*"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const HOSTS: [&str; 3] = ["store.mall", "*.mall", "other.example"];
const USERS: [&str; 3] = ["ann", "bob", "annabel"];
const ACCOUNTS: [[&str; 2]; 2] = [["mall", "client"], ["visitors", "guest"]];

fn values(dice: &mut Dice, of: &[&str]) -> Vec<String> {
    (0..1 + dice.under(2)).map(|_| (*dice.one(of)).to_owned()).collect()
}

fn negated(dice: &mut Dice, positive: &'static str, negative: &'static str) -> &'static str {
    if dice.once_in(3) { negative } else { positive }
}

fn source(dice: &mut Dice) -> Fields {
    let [namespace, account] = *dice.one(&ACCOUNTS);
    let principal = format!("cluster.local/ns/{namespace}/sa/{account}");
    if dice.once_in(2) {
        let name = negated(dice, "principals", "notPrincipals");
        Fields::from([(name, vec![principal])])
    } else {
        let name = negated(dice, "namespaces", "notNamespaces");
        Fields::from([(name, vec![namespace.to_owned()])])
    }
}

fn operation(dice: &mut Dice) -> Fields {
    let mut fields = Fields::new();
    for _ in 0..1 + dice.under(2) {
        let (name, values) = match dice.under(3) {
            0 => (negated(dice, "paths", "notPaths"), values(dice, &PATH_PATTERNS)),
            1 => (negated(dice, "methods", "notMethods"), values(dice, &METHODS)),
            _ => (negated(dice, "hosts", "notHosts"), values(dice, &HOSTS)),
        };
        fields.insert(name, values);
    }
    fields
}

fn rule(dice: &mut Dice) -> Rule {
    let mut rule = Rule::default();
    if dice.once_in(2) {
        rule.from.push(source(dice));
    }
    if !dice.once_in(3) {
        rule.to.push(operation(dice));
    }
    if dice.once_in(3) {
        let users = values(dice, &["ann", "ann*", "*bob", "*"]);
        rule.when.push(Condition { key: "request.headers[x-user]", values: users, not_values: Vec::new() });
    }
    rule
}

fn policy(dice: &mut Dice, name: String) -> Policy {
    let action = dice.one::<&str>(&["ALLOW", "ALLOW", "DENY"]);
    let rules = (0..1 + dice.under(2)).map(|_| rule(dice)).collect();
    Policy { namespace: "mall".into(), name, action, rules, ..Policy::default() }
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
    let (mut passed, mut refused) = (0, 0);
    for seed in FIRST_SEED..FIRST_SEED + REQUESTS / 2 {
        let mut dice = Dice::seeded(seed);
        let policies: Vec<Policy> = (0..1 + dice.under(2)).map(|n| policy(&mut dice, format!("p{seed}-{n}"))).collect();
        let manifests: String = policies.iter().map(manifest).collect();
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
            let expected = if request::answer(&policies, &asked).allowed { 200 } else { 403 };
            let header = format!("x-user: {user}");
            let answer = ask(stage, pod, &format!("http://store.mall{path}"), &["-X", method, "-H", &header])?;
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
    ensure!(passed > 40 && refused > 40, "the policies say little: {passed} passed, {refused} refused");
    seen.push(format!(
        "{REQUESTS} requests under generated policies: {passed} passed, {refused} refused, all as the reference says"
    ));
    Ok(())
}
