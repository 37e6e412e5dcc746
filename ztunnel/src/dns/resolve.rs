//! The addresses of an endpoint that has only a name, remembered for as long as the servers allow.

use super::{
    forward::{AskError, Reach, Transport, ask},
    limits,
};
use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// Asks the node's name servers, and remembers what they said. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Arc<[SocketAddr]>,
    ipv6: bool,
    memory: Arc<Mutex<HashMap<String, Remembered>>>,
    places: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
struct Remembered {
    until: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Resolver {
    /// Asks these servers. Without `ipv6` no AAAA is asked for.
    pub fn new(servers: &[SocketAddr], ipv6: bool) -> Self {
        Self {
            servers: servers.into(),
            ipv6,
            memory: Arc::default(),
            places: Arc::new(Semaphore::new(limits::RESOLVING_MAX)),
        }
    }

    /// Every address of a name. `NotFound`: there is none; `TimedOut`: nobody said within 5 s.
    pub async fn resolve(&self, reach: &impl Reach, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let addresses = match self.remembered(&name, Instant::now()) {
            Some(addresses) => addresses,
            None => timeout(limits::DEADLINE, self.ask_in_turn(reach, &name)).await.map_err(|_| {
                let reason =
                    format!("no name server told the address of {name} within {} s", limits::DEADLINE.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, reason)
            })??,
        };
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")));
        }
        Ok(addresses.to_vec())
    }

    /// Many connections to one name begin at once: who waited for a place finds what the first one learned.
    async fn ask_in_turn(&self, reach: &impl Reach, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let _place = self.places.acquire().await;
        match self.remembered(name, Instant::now()) {
            Some(addresses) => Ok(addresses),
            None => self.ask_both(reach, name).await,
        }
    }

    async fn ask_both(&self, reach: &impl Reach, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let asked = Name::from_ascii(format!("{name}."))
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no hostname")))?;
        let six = async {
            if self.ipv6 { self.ask_one(reach, &asked, RecordType::AAAA).await } else { Ok((Vec::new(), None)) }
        };
        let (four, six) = tokio::join!(self.ask_one(reach, &asked, RecordType::A), six);
        // One family is enough to go on with; what failed is asked again when it is forgotten.
        let found = match (four, six) {
            (Ok(four), Ok(six)) => [four, six],
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.0.is_empty() => [found, (Vec::new(), None)],
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let ttl = found.iter().filter_map(|(_, ttl)| *ttl).min().unwrap_or(limits::UNRESOLVED_TTL);
        let [(mut addresses, _), (six, _)] = found;
        addresses.extend(six);
        let addresses: Arc<[IpAddr]> = addresses.into();
        self.remember(name, &addresses, Instant::now() + ttl);
        Ok(addresses)
    }

    async fn ask_one(
        &self,
        reach: &impl Reach,
        name: &Name,
        kind: RecordType,
    ) -> io::Result<(Vec<IpAddr>, Option<Duration>)> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(limits::DATAGRAM_BYTES_MAX as u16);
        query.set_edns(edns);
        let mut reply = ask(reach, &self.servers, &query, Transport::Udp).await.map_err(io_error)?;
        if reply.header.metadata.truncation {
            reply = ask(reach, &self.servers, &query, Transport::Tcp).await.map_err(io_error)?;
        }
        let message = Message::from_vec(&reply.bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the name server's answer cannot be read"))?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(addresses(&message, name, kind)),
            code => Err(io::Error::other(format!("the name server answered {code}"))),
        }
    }

    fn remembered(&self, name: &str, now: Instant) -> Option<Arc<[IpAddr]>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(name).filter(|found| found.until > now).map(|found| found.addresses.clone())
    }

    fn remember(&self, name: &str, addresses: &Arc<[IpAddr]>, until: Instant) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= limits::RESOLVED_MAX {
            let now = Instant::now();
            memory.retain(|_, found| found.until > now);
        }
        if memory.len() < limits::RESOLVED_MAX || memory.contains_key(name) {
            memory.insert(name.into(), Remembered { until, addresses: addresses.clone() });
        }
    }
}

fn io_error(error: AskError) -> io::Error {
    let kind = match &error {
        AskError::TimedOut => io::ErrorKind::TimedOut,
        AskError::NoServers | AskError::Unwritable => io::ErrorKind::Other,
        AskError::Unreachable(cause) => cause.kind(),
    };
    io::Error::new(kind, error)
}

/// The IPv4 addresses that the bytes of an answer give for `name`; none if they are no answer.
pub fn read(bytes: &[u8], name: &str) -> Vec<IpAddr> {
    match (Message::from_vec(bytes), Name::from_ascii(name)) {
        (Ok(message), Ok(name)) => addresses(&message, &name, RecordType::A).0,
        _ => Vec::new(),
    }
}

/// The addresses of `name` in an answer and for how long they hold. Only the chain of aliases that
/// begins at the name counts: an answer may say things of other names, and is not believed there.
fn addresses(message: &Message, name: &Name, kind: RecordType) -> (Vec<IpAddr>, Option<Duration>) {
    let (mut owner, mut ttl) = (name.to_lowercase(), u32::MAX);
    // A chain of aliases is at most as long as the answer, and a circle ends there.
    for _alias in &message.answers {
        let next = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name.to_lowercase() == owner => Some((alias.0.to_lowercase(), record.ttl)),
            _ => None,
        });
        let Some((alias, alias_ttl)) = next else { break };
        (owner, ttl) = (alias, ttl.min(alias_ttl));
    }
    let mut found = Vec::new();
    for record in message.answers.iter().filter(|record| record.name.to_lowercase() == owner) {
        let address = match &record.data {
            RData::A(a) if kind == RecordType::A => IpAddr::V4(a.0),
            RData::AAAA(aaaa) if kind == RecordType::AAAA => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        if found.len() < limits::RESOLVED_ADDRESSES_MAX {
            found.push(address);
            ttl = ttl.min(record.ttl);
        }
    }
    let ttl = Duration::from_secs(ttl.into()).clamp(limits::RESOLVED_TTL_MIN, limits::RESOLVED_TTL_MAX);
    let known = !found.is_empty();
    (found, known.then_some(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{
        Record,
        rdata::{A, CNAME},
    };

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    /// Records as `owner ttl address` or `owner ttl alias`.
    fn check(records: &[&str], expected: &str) {
        let mut message = Message::query().into_response();
        for record in records {
            let [owner, ttl, value] = record.split(' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
            let data = match value.parse() {
                Ok(address) => RData::A(A(address)),
                Err(_) => RData::CNAME(CNAME(name(value))),
            };
            message.add_answer(Record::from_rdata(name(owner), ttl.parse().expect("a number"), data));
        }
        let (found, ttl) = addresses(&message, &name("db.example.com."), RecordType::A);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(format!("{} {:?}", found.join(" "), ttl), expected, "{records:?}");
    }

    #[test]
    fn only_the_chain_from_the_asked_name_is_believed() {
        check(&["db.example.com. 60 10.0.0.1", "db.example.com. 20 10.0.0.2"], "10.0.0.1 10.0.0.2 Some(20s)");
        check(&["DB.example.com. 60 10.0.0.1"], "10.0.0.1 Some(60s)");
        check(&["db.example.com. 5 a.net.", "a.net. 60 10.0.0.1", "b.net. 60 6.6.6.6"], "10.0.0.1 Some(5s)");
        check(&["bank.example.com. 60 6.6.6.6"], " None");
        check(&["db.example.com. 5 a.net.", "a.net. 5 db.example.com."], " None");
        check(&["db.example.com. 0 10.0.0.1"], "10.0.0.1 Some(1s)");
        check(&["db.example.com. 9999 10.0.0.1"], "10.0.0.1 Some(300s)");
        check(&[], " None");
    }
}
