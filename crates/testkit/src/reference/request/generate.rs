//! Random policies and requests that have something to do with each other.

use super::{Http, Request};
use crate::reference::{Condition, Dice, Fields, Policy, Rule};
use std::{collections::BTreeMap, net::IpAddr};

/// Where the requests are made: few words, so that policies and requests meet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Market;

const CALLERS: [[&str; 3]; 4] = [
    ["cluster.local", "shop", "web"],
    ["cluster.local", "shop", "clerk"],
    ["cluster.local", "pay", "web"],
    ["other.example", "shop", "web"],
];
const ADDRESSES: [&str; 5] = ["10.0.1.1", "10.0.1.9", "10.0.2.1", "192.0.2.1", "fd00::7"];
const BLOCKS: [&str; 6] = ["10.0.1.0/24", "10.0.0.0/8", "10.0.1.9", "fd00::/16", "0.0.0.0/0", "192.0.2.0/31"];
const AUTHORITIES: [&str; 6] =
    ["shop.example", "shop.example:8080", "Shop.Example", "pay.example:80", "a.shop.example", "x"];
const HOSTS: [&str; 9] = [
    "shop.example",
    "SHOP.example",
    "shop.example:8080",
    "*.example",
    "*.shop.example",
    "shop.*",
    "*",
    "*:80",
    "pay.example",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 10] =
    ["/", "/admin", "/admin/", "/admin/users", "/admin/users/7", "/admin//7", "/data/a/b", "/data", "/Admin", "/data/"];
const PATH_PATTERNS: [&str; 16] = [
    "/admin",
    "/admin*",
    "/admin/*",
    "*/7",
    "*",
    "/",
    "/admin/{*}",
    "/admin/{*}/7",
    "/admin/{**}",
    "/{*}",
    "/{**}",
    "/{**}/7",
    "/data/{*}/{**}",
    "/data/{**}/",
    "/admin/{**}/users",
    "/{*}/{*}/{**}/b",
];
const NAMES: [&str; 4] = ["ann", "bob", "annabel", ""];
const NAME_PATTERNS: [&str; 6] = ["ann", "ann*", "*bob", "*", "a.n", "annabel"];
const ISSUERS: [&str; 3] = ["https://id.example", "https://other.example", "id"];

/// Fields of sources and operations; those of each half are asked about as often.
const SOURCE_FIELDS: [&str; 6] =
    ["principals", "namespaces", "serviceAccounts", "ipBlocks", "remoteIpBlocks", "requestPrincipals"];
const OPERATION_FIELDS: [&str; 4] = ["hosts", "methods", "paths", "ports"];
const NEGATED: [(&str, &str); 10] = [
    ("principals", "notPrincipals"),
    ("namespaces", "notNamespaces"),
    ("serviceAccounts", "notServiceAccounts"),
    ("ipBlocks", "notIpBlocks"),
    ("remoteIpBlocks", "notRemoteIpBlocks"),
    ("requestPrincipals", "notRequestPrincipals"),
    ("hosts", "notHosts"),
    ("methods", "notMethods"),
    ("paths", "notPaths"),
    ("ports", "notPorts"),
];
const KEYS: [&str; 16] = [
    "source.ip",
    "source.principal",
    "source.namespace",
    "remote.ip",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "request.headers[X-User]",
    "request.headers[x-none]",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[groups]",
    "request.auth.claims[scope]",
    "request.auth.claims[org][name]",
    "request.auth.claims[iss]",
];

fn address(dice: &mut Dice) -> IpAddr {
    dice.one::<&str>(&ADDRESSES).parse().expect("a good address")
}

impl Market {
    /// A request.
    pub fn request(&self, dice: &mut Dice) -> Request {
        let caller = (!dice.once_in(5)).then(|| dice.one(&CALLERS).map(ToOwned::to_owned));
        let server_name = dice.once_in(3).then(|| (*dice.one(&["shop.example", "A.Shop.Example"])).to_owned());
        Request {
            caller,
            source: address(dice),
            destination: address(dice),
            port: *dice.one(&[80, 8080]),
            server_name,
            http: (!dice.once_in(6)).then(|| self.http(dice)),
        }
    }

    fn http(&self, dice: &mut Dice) -> Http {
        let mut headers = BTreeMap::new();
        if dice.once_in(2) {
            headers.insert("x-user".to_owned(), (*dice.one(&NAMES)).to_owned());
        }
        Http {
            authority: (*dice.one(&AUTHORITIES)).into(),
            method: (*dice.one(&METHODS)).into(),
            path: (*dice.one(&PATHS)).into(),
            headers,
            remote: address(dice),
            claims: if dice.once_in(3) { BTreeMap::new() } else { self.claims(dice) },
        }
    }

    fn claims(&self, dice: &mut Dice) -> BTreeMap<String, Vec<String>> {
        let mut claims = BTreeMap::new();
        for name in ["[iss]", "[sub]", "[aud]", "[azp]", "[groups]", "[scope]", "[org][name]"] {
            if dice.once_in(4) {
                continue;
            }
            let lists = matches!(name, "[aud]" | "[groups]" | "[scope]");
            let count = if lists { 1 + dice.under(3) } else { 1 };
            let named = |dice: &mut Dice| match name {
                "[iss]" => *dice.one(&ISSUERS),
                _ => *dice.one(&NAMES[..3]),
            };
            claims.insert(name.to_owned(), (0..count).map(|_| named(dice).to_owned()).collect());
        }
        claims
    }

    /// A policy of this name. It is one that Istio's validation takes.
    pub fn policy(&self, dice: &mut Dice, name: &str) -> Policy {
        Policy {
            namespace: (*dice.one(&["shop", "pay"])).into(),
            name: name.into(),
            selector: BTreeMap::new(),
            action: dice.one::<&str>(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"]),
            dry_run: dice.once_in(8),
            rules: (0..dice.under(4)).map(|_| self.rule(dice)).collect(),
        }
    }

    fn rule(&self, dice: &mut Dice) -> Rule {
        let some = |dice: &mut Dice| dice.under(3).min(dice.under(3));
        let (from, to, when) = (some(dice), some(dice), some(dice));
        Rule {
            from: (0..from).map(|_| self.fields(dice, &SOURCE_FIELDS)).collect(),
            to: (0..to).map(|_| self.fields(dice, &OPERATION_FIELDS)).collect(),
            when: (0..when).map(|_| self.condition(dice)).collect(),
        }
    }

    fn fields(&self, dice: &mut Dice, names: &[&'static str]) -> Fields {
        let mut fields = Fields::new();
        for _ in 0..1 + dice.under(2) {
            let name = *dice.one(names);
            let values = self.values(dice, name);
            let negated = NEGATED.iter().find(|(positive, _)| *positive == name).map(|(_, negated)| *negated);
            fields.insert(negated.filter(|_| dice.once_in(3)).unwrap_or(name), values);
        }
        fields
    }

    fn condition(&self, dice: &mut Dice) -> Condition {
        let key = *dice.one(&KEYS);
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
        let [domain, namespace, account] = *dice.one(&CALLERS);
        match name {
            "principals" | "source.principal" => match dice.under(4) {
                0 => "*".into(),
                1 => format!("{domain}/ns/{namespace}/*"),
                2 => format!("*/sa/{account}"),
                _ => format!("{domain}/ns/{namespace}/sa/{account}"),
            },
            "namespaces" | "source.namespace" => (*dice.one(&[namespace, "s*", "*y", "*"])).into(),
            "serviceAccounts" if dice.once_in(2) => account.into(),
            "serviceAccounts" => format!("{namespace}/{account}"),
            "ipBlocks" | "remoteIpBlocks" | "source.ip" | "remote.ip" | "destination.ip" => (*dice.one(&BLOCKS)).into(),
            "ports" | "destination.port" => (*dice.one(&["80", "8080"])).into(),
            "hosts" | "connection.sni" => (*dice.one(&HOSTS)).into(),
            "methods" => (*dice.one(&["GET", "POST", "P*", "*E", "*", "get"])).into(),
            "paths" => (*dice.one(&PATH_PATTERNS)).into(),
            "requestPrincipals" | "request.auth.principal" => match dice.under(4) {
                0 => "*".into(),
                1 => format!("{}/*", dice.one(&ISSUERS)),
                2 => format!("*/{}", dice.one(&NAMES[..3])),
                _ => format!("{}/{}", dice.one(&ISSUERS), dice.one(&NAMES[..3])),
            },
            "request.auth.claims[iss]" => (*dice.one(&["https://*", "id", "*"])).into(),
            _ => (*dice.one(&NAME_PATTERNS)).into(),
        }
    }
}
