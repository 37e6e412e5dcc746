//! A message of a pod → what is said to it. Pure.

use super::{
    Zone,
    answer::{Answer, Family, answer as look_up, is_of_cluster},
    limits,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use mesh::{View, Workload};
use std::net::IpAddr;

/// What an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Mesh<'a> {
    /// The mesh now.
    pub view: &'a View,
    /// The pod that asks.
    pub client: Option<&'a Workload>,
    /// What all answers have in common.
    pub zone: &'a Zone,
    /// There are others to ask.
    pub others: bool,
}

/// What is said to a question.
#[derive(Debug)]
pub(super) enum Said {
    /// This.
    Answer(Message),
    /// What others say to this.
    Forward(Message),
    /// Nothing yet: the mesh does not know the pod that asks.
    UnknownClient,
}

/// Reads a message; `None` when it is no question at all and is not answered.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    Message::from_vec(bytes).ok().filter(|message| message.metadata.message_type == MessageType::Query)
}

/// Answers a message that was [read](read). `dice` is the only chance in it.
pub(super) fn answer(mesh: &Mesh<'_>, asked: &Message, dice: u64) -> Said {
    if asked.metadata.op_code != OpCode::Query {
        return Said::Answer(respond(asked, ResponseCode::NotImp));
    }
    let [question] = &asked.queries[..] else { return Said::Answer(respond(asked, ResponseCode::FormErr)) };
    let family = match (question.query_class, question.query_type) {
        (DNSClass::IN, RecordType::A) => Some(Family::V4),
        (DNSClass::IN, RecordType::AAAA) => Some(Family::V6),
        _ => None,
    };
    let name = question.name.to_ascii();
    let found = match family {
        Some(family) => look_up(mesh.view, mesh.client, mesh.zone, &name, family),
        None if mesh.client.is_none() => Answer::UnknownClient,
        None => Answer::Forward,
    };
    match found {
        Answer::Known { canonical, addresses } => Said::Answer(known(asked, question, canonical, addresses, dice)),
        Answer::UnknownClient => Said::UnknownClient,
        // With nobody else to ask, the mesh's own domain has no other names.
        Answer::Forward if !mesh.others && is_of_cluster(&name, mesh.zone) => {
            let mut message = respond(asked, ResponseCode::NXDomain);
            message.metadata.authoritative = true;
            Said::Answer(message)
        }
        Answer::Forward => Said::Forward(forwarded(asked, question)),
    }
}

/// What is sent back over UDP for the bytes of a datagram without asking others or waiting, if anything.
pub fn told(mesh: &Mesh<'_>, bytes: &[u8], dice: u64) -> Option<Vec<u8>> {
    let asked = read(bytes)?;
    match answer(mesh, &asked, dice) {
        Said::Answer(message) => Some(bytes_of(&message, limit(&asked, false))),
        Said::Forward(_) | Said::UnknownClient => None,
    }
}

/// The question as it is asked of others: nothing of the pod's message goes along but what it asks for.
fn forwarded(asked: &Message, question: &Query) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = asked.metadata.recursion_desired;
    query.metadata.checking_disabled = asked.metadata.checking_disabled;
    query.metadata.authentic_data = asked.metadata.authentic_data;
    query.add_query(question.clone());
    if let Some(theirs) = &asked.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(datagram_limit(asked) as u16).set_dnssec_ok(theirs.flags().dnssec_ok);
        query.set_edns(edns);
    }
    query
}

/// An answer without records.
pub(super) fn respond(asked: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(asked.queries.iter().take(1).cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(limits::DATAGRAM_BYTES_MAX as u16);
        message.set_edns(edns);
    }
    message
}

fn known(
    asked: &Message,
    question: &Query,
    canonical: Option<String>,
    mut addresses: Vec<IpAddr>,
    dice: u64,
) -> Message {
    let mut message = respond(asked, ResponseCode::NoError);
    message.metadata.authoritative = true;
    let alias = canonical.and_then(|name| Name::from_ascii(format!("{name}.")).ok());
    let owner = alias.as_ref().unwrap_or(&question.name);
    if let Some(alias) = &alias {
        let record = RData::CNAME(CNAME(alias.clone()));
        message.add_answer(Record::from_rdata(question.name.clone(), limits::TTL_SECONDS, record));
    }
    shuffle(&mut addresses, dice);
    message.add_answers(addresses.into_iter().map(|address| {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        Record::from_rdata(owner.clone(), limits::TTL_SECONDS, data)
    }));
    message
}

/// Another order, so that clients which take the first address share the work. `dice` is the only chance in it.
pub(super) fn shuffle<T>(items: &mut [T], dice: u64) {
    let mut state = dice;
    for end in (1..items.len()).rev() {
        // A step of a linear congruential generator (Knuth's MMIX): good enough to share work.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(end, (state >> 33) as usize % (end + 1));
    }
}

/// What fits into a datagram to the one who asked.
fn datagram_limit(asked: &Message) -> usize {
    let told = asked.edns.as_ref().map_or(512, |edns| edns.max_payload().into());
    told.clamp(512, limits::DATAGRAM_BYTES_MAX)
}

/// What fits into an answer.
pub(super) fn limit(asked: &Message, tcp: bool) -> usize {
    if tcp { usize::from(u16::MAX) } else { datagram_limit(asked) }
}

/// The bytes of an answer; one that would be too large says so and nothing else.
pub(super) fn bytes_of(message: &Message, limit: usize) -> Vec<u8> {
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= limit => bytes,
        _ => message.truncate().to_vec().unwrap_or_default(),
    }
}

/// The label of a type: a peer may ask for any of 65,536.
pub(super) fn kind(asked: &Message) -> &'static str {
    let [question] = &asked.queries[..] else { return "other" };
    match question.query_type {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::CNAME => "CNAME",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::SVCB => "SVCB",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::fixture;
    use proptest::prelude::any;

    #[test]
    fn shuffling_keeps_every_item_and_changes_who_is_first() {
        let mut first = [0; 4];
        for dice in 0..400u64 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, dice.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            first[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert!(first.iter().all(|count| *count > 50), "{first:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), dice in any::<u64>()) {
            let view = fixture::view("pod a ns=shop ip=10.0.0.1\nservice web ns=shop vip=10.1.0.1 80->80");
            let client = view.workloads().next().cloned();
            let zone = Zone { domain: "cluster.local".into(), ipv6: true, preferred_namespace: None };
            let mesh = Mesh { view: &view, client: client.as_deref(), zone: &zone, others: false };
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii("web.").expect("a name"), RecordType::A));
            let mut question = query.to_vec().expect("bytes");
            for (at, byte) in bytes.iter().enumerate() {
                let place = (at * 7 + usize::from(*byte)) % question.len();
                question[place] ^= byte;
            }
            told(&mesh, &bytes, dice);
            told(&mesh, &question, dice);
        }
    }
}
