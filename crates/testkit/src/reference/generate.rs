//! Random policies and calls that have something to do with each other.

use super::{Call, Condition, Fields, Pod, Policy, Rule};
use std::{collections::BTreeMap, net::IpAddr};

/// A seeded source of chance (SplitMix64): the same in every version of every library.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `end`.
    pub fn under(&mut self, end: usize) -> usize {
        ((u128::from(self.roll()) * end as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.under(n) == 0
    }

    /// One of several.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.under(of.len())]
    }
}

/// Who and what the generated policies and calls are about.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The namespace whose policies are for all.
    pub root_namespace: String,
    /// The pods that are called.
    pub pods: Vec<Pod>,
    /// Who may call: trust domain, namespace and service account, or nobody; and from where.
    pub callers: Vec<(Option<[String; 3]>, IpAddr)>,
    /// The ports that are called.
    pub ports: Vec<u16>,
}

impl Default for Cast {
    fn default() -> Self {
        let pod = |namespace: &str, app: &str, address: &str| Pod {
            namespace: namespace.into(),
            name: app.into(),
            labels: BTreeMap::from([("app".into(), app.into()), ("tier".into(), namespace.into())]),
            address: address.parse().expect("a good address"),
        };
        let caller = |parts: Option<[&str; 3]>, address: &str| {
            (parts.map(|parts| parts.map(Into::into)), address.parse().expect("a good address"))
        };
        Self {
            root_namespace: "istio-system".into(),
            pods: vec![
                pod("shop", "web", "10.0.1.1"),
                pod("shop", "db", "10.0.1.2"),
                pod("pay", "web", "10.0.2.1"),
                pod("pay", "six", "fd00::2"),
            ],
            callers: vec![
                caller(Some(["cluster.local", "shop", "web"]), "10.0.1.1"),
                caller(Some(["cluster.local", "shop", "we.b"]), "10.0.1.9"),
                caller(Some(["cluster.local", "shop2", "web"]), "10.0.3.1"),
                caller(Some(["cluster.local", "pay", "clerk"]), "10.0.2.77"),
                caller(Some(["other.example", "shop", "web"]), "192.0.2.1"),
                caller(None, "10.0.1.7"),
                caller(None, "fd00::7"),
            ],
            ports: vec![80, 443, 8080],
        }
    }
}

impl Cast {
    /// A call to one of the pods.
    pub fn call(&self, dice: &mut Dice) -> (&Pod, Call) {
        let (caller, address) = dice.one(&self.callers).clone();
        (dice.one(&self.pods), Call { caller, address, port: *dice.one(&self.ports) })
    }

    /// A policy of this name. It is one that Istio's validation takes.
    pub fn policy(&self, dice: &mut Dice, name: &str) -> Policy {
        let near = dice.one(&self.pods).clone();
        let mut selector = near.labels.clone();
        selector.retain(|_, _| dice.once_in(3));
        Policy {
            namespace: if dice.once_in(5) { self.root_namespace.clone() } else { near.namespace },
            name: name.into(),
            selector,
            action: dice.one::<&str>(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "DENY", "AUDIT"]),
            dry_run: dice.once_in(8),
            rules: (0..dice.under(4)).map(|_| self.rule(dice)).collect(),
        }
    }

    fn rule(&self, dice: &mut Dice) -> Rule {
        let some = |dice: &mut Dice| dice.under(3).min(dice.under(3));
        let (from, to, when) = (some(dice), some(dice), some(dice));
        Rule {
            from: (0..from).map(|_| self.source(dice)).collect(),
            to: (0..to).map(|_| self.operation(dice)).collect(),
            when: (0..when).map(|_| self.condition(dice)).collect(),
        }
    }

    fn source(&self, dice: &mut Dice) -> Fields {
        const NAMES: [&str; 8] = [
            "principals",
            "notPrincipals",
            "namespaces",
            "notNamespaces",
            "serviceAccounts",
            "notServiceAccounts",
            "ipBlocks",
            "notIpBlocks",
        ];
        self.fields(dice, &NAMES, &["requestPrincipals", "remoteIpBlocks", "notRequestPrincipals"])
    }

    fn operation(&self, dice: &mut Dice) -> Fields {
        self.fields(dice, &["ports", "notPorts"], &["methods", "paths", "notHosts"])
    }

    fn fields(&self, dice: &mut Dice, visible: &[&'static str], hidden: &[&'static str]) -> Fields {
        let count = 1 + dice.under(2);
        let names = (0..count).map(|_| if dice.once_in(8) { *dice.one(hidden) } else { *dice.one(visible) });
        let names: Vec<_> = names.collect();
        names.into_iter().map(|name| (name, self.values(dice, name))).collect()
    }

    fn condition(&self, dice: &mut Dice) -> Condition {
        let keys = ["source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"];
        let hidden = ["request.headers[x-user]", "request.auth.claims[iss]"];
        let key = if dice.once_in(8) { *dice.one(&hidden) } else { *dice.one(&keys) };
        let (values, not_values) = match dice.under(3) {
            0 => (self.values(dice, key), Vec::new()),
            1 => (Vec::new(), self.values(dice, key)),
            _ => (self.values(dice, key), self.values(dice, key)),
        };
        Condition { key, values, not_values }
    }

    fn values(&self, dice: &mut Dice, name: &str) -> Vec<String> {
        (0..1 + dice.under(3)).map(|_| self.value(dice, name)).collect()
    }

    fn value(&self, dice: &mut Dice, name: &str) -> String {
        let known: Vec<_> = self.callers.iter().filter_map(|(caller, _)| caller.clone()).collect();
        let [domain, namespace, account] = dice.one(&known).clone();
        match super::attribute(name) {
            Some("principal") => pattern(dice, &format!("{domain}/ns/{namespace}/sa/{account}")),
            Some("namespace") => pattern(dice, &namespace),
            Some("account") if dice.once_in(2) => account,
            Some("account") => format!("{namespace}/{account}"),
            Some("source ip") => {
                let caller = dice.one(&self.callers).1;
                block(dice, caller)
            }
            Some("destination ip") => {
                let pod = dice.one(&self.pods).address;
                block(dice, pod)
            }
            Some("port") => dice.one(&self.ports).to_string(),
            _ => "whatever".into(),
        }
    }
}

/// The text itself, one of its ends, or that there is one at all.
fn pattern(dice: &mut Dice, text: &str) -> String {
    let at = dice.under(text.len());
    match dice.under(6) {
        0 => "*".into(),
        1 => format!("{}*", &text[..at.max(1)]),
        2 => format!("*{}", &text[at..]),
        // Not an expression: a dot is a dot.
        3 => text.replacen(|c: char| c.is_ascii_alphabetic(), ".", 1),
        _ => text.into(),
    }
}

/// A range around an address, or the address.
fn block(dice: &mut Dice, address: IpAddr) -> String {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match dice.under(3) {
        0 => address.to_string(),
        1 => format!("{address}/{longest}"),
        _ => format!("{address}/{}", dice.under(longest + 1)),
    }
}
