//! How an endpoint is chosen (`loadBalancer`), in a DestinationRule and in a TrafficPolicy.

use crate::{
    facts::Balancing,
    files::{
        field::Field,
        value::{duration, header_name, known, percent, some_duration, texts, unhonoured},
    },
};
use mesh::{
    Str,
    route::{
        text::Fraction,
        traffic::{Balance, HashAlgorithm, HashKey, Locality, Warmup},
    },
};

/// Points of a ring when nobody says, as Istio has it.
const RING_POINTS: u32 = 1024;

/// Entries of a Maglev table when nobody says, as Envoy has it.
const MAGLEV_ENTRIES: u32 = 65_537;

/// The largest ring and table, as Envoy has it.
const TABLE_MAX: u32 = 5_000_011;

pub(super) fn balancing(field: &Field<'_>) -> Option<Balancing> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "simple",
            "consistentHash",
            "localityLbSetting",
            "zoneAwareLbSetting",
            "warmup",
            "warmupDurationSecs",
            "backendUtilization",
        ],
    );
    unhonoured(field, &["zoneAwareLbSetting", "backendUtilization"]);
    let (simple, hash) = (field.at("simple"), field.at("consistentHash"));
    if simple.is_there() && hash.is_there() {
        hash.note("stands beside simple, and only one of them may");
    }
    let names = [
        ("UNSPECIFIED", Balance::LeastRequest),
        ("LEAST_CONN", Balance::LeastRequest),
        ("LEAST_REQUEST", Balance::LeastRequest),
        ("ROUND_ROBIN", Balance::RoundRobin),
        ("RANDOM", Balance::Random),
        ("PASSTHROUGH", Balance::Passthrough),
    ];
    let place: Vec<_> = names.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect();
    let simple = simple.one_of(&place).map(|place| names[place].1.clone());
    Some(Balancing {
        balance: consistent(&hash).or(simple).unwrap_or_default(),
        locality: locality(&field.at("localityLbSetting")),
        warmup: warmup(field),
    })
}

fn consistent(field: &Field<'_>) -> Option<Balance> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "httpHeaderName",
            "httpCookie",
            "useSourceIp",
            "httpQueryParameterName",
            "minimumRingSize",
            "ringHash",
            "maglev",
        ],
    );
    let cookie = field.at("httpCookie");
    let header = field.at("httpHeaderName").text().and_then(|name| header_name(&field.at("httpHeaderName"), &name));
    let query = field.at("httpQueryParameterName").text().filter(|name| !name.is_empty());
    let by_source = field.at("useSourceIp").flag() == Some(true);
    let keys: Vec<HashKey> = [
        header.map(HashKey::Header),
        cookie.is_there().then(|| cookie_key(&cookie)).flatten(),
        by_source.then_some(HashKey::SourceIp),
        query.map(HashKey::Query),
    ]
    .into_iter()
    .flatten()
    .collect();
    let [key] = &keys[..] else {
        field.note("must say one of httpHeaderName, httpCookie, useSourceIp: true, httpQueryParameterName");
        return None;
    };
    Some(Balance::Consistent { key: key.clone(), algorithm: algorithm(field) })
}

fn cookie_key(field: &Field<'_>) -> Option<HashKey> {
    known(field, &["name", "path", "ttl", "attributes"]);
    unhonoured(field, &["attributes"]);
    let name = field.at("name").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("name").note("says nothing");
    }
    let path = field.at("path").text().filter(|path| !path.is_empty());
    Some(HashKey::Cookie { name: name?, path, ttl: duration(&field.at("ttl")) })
}

fn algorithm(field: &Field<'_>) -> HashAlgorithm {
    let (ring, maglev) = (field.at("ringHash"), field.at("maglev"));
    known(&ring, &["minimumRingSize"]);
    known(&maglev, &["tableSize"]);
    if ring.is_there() && maglev.is_there() {
        maglev.note("stands beside ringHash, and only one of them may");
    }
    let size = |field: Field<'_>, otherwise| {
        let size = field.number().filter(|size| *size > 0).unwrap_or(otherwise);
        if size > TABLE_MAX {
            field.note(format!("is more than {TABLE_MAX}"));
        }
        size.min(TABLE_MAX)
    };
    if maglev.is_there() {
        let entries = size(maglev.at("tableSize"), MAGLEV_ENTRIES);
        if !is_prime(entries) {
            maglev.at("tableSize").note("is not a prime number");
        }
        return HashAlgorithm::Maglev { entries };
    }
    let old = size(field.at("minimumRingSize"), RING_POINTS);
    HashAlgorithm::Ring { points_min: size(ring.at("minimumRingSize"), old) }
}

fn is_prime(number: u32) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn locality(field: &Field<'_>) -> Option<Locality> {
    if !field.is_there() {
        return None;
    }
    known(field, &["distribute", "failover", "failoverPriority", "enabled"]);
    if field.at("enabled").flag() == Some(false) {
        return Some(Locality::Off);
    }
    let (distribute, failover, priority) = (field.at("distribute"), field.at("failover"), field.at("failoverPriority"));
    if distribute.is_there() && (failover.is_there() || priority.is_there()) {
        field.note("says distribute beside failover or failoverPriority, and only one of them may");
    }
    if distribute.is_there() {
        return Some(Locality::Distribute(distribute.list().iter().filter_map(shares).collect()));
    }
    if priority.is_there() {
        if failover.is_there() {
            failover.remark("is not honoured beside failoverPriority");
        }
        return Some(Locality::Priority(texts(&priority)));
    }
    let pair = |field: &Field<'_>| {
        known(field, &["from", "to"]);
        Some((some(&field.at("from"))?, some(&field.at("to"))?))
    };
    Some(Locality::Failover(failover.list().iter().filter_map(pair).collect()))
}

fn some(field: &Field<'_>) -> Option<Str> {
    let text = field.text().filter(|text| !text.is_empty());
    if text.is_none() {
        field.note("says nothing");
    }
    text
}

/// `{from: a/b/*, to: {a/b/*: 80, c/*: 20}}`.
fn shares(field: &Field<'_>) -> Option<(Str, Vec<(Str, u32)>)> {
    known(field, &["from", "to"]);
    let to = field.at("to");
    let shares: Vec<(Str, u32)> =
        to.members().into_iter().filter_map(|(name, share)| Some((name, share.number()?))).collect();
    let sum: u64 = shares.iter().map(|(_, share)| u64::from(*share)).sum();
    if sum != 100 || shares.iter().any(|(_, share)| *share == 0) {
        to.note("must hold shares above 0 that are 100 together");
    }
    Some((some(&field.at("from"))?, shares))
}

fn warmup(field: &Field<'_>) -> Option<Warmup> {
    let (new, old) = (field.at("warmup"), field.at("warmupDurationSecs"));
    known(&new, &["duration", "minimumPercent", "aggression"]);
    if new.at("aggression").float().is_some_and(|aggression| aggression != 1.0) {
        new.at("aggression").remark("the share grows evenly, as with 1");
    }
    let minimum = percent(&new.at("minimumPercent")).unwrap_or(Fraction(100_000));
    if new.is_there() && !new.at("duration").is_there() {
        new.at("duration").note("says nothing");
    }
    let said = if new.is_there() { new.at("duration") } else { old };
    let duration = some_duration(&said)?;
    Some(Warmup { duration, minimum })
}
