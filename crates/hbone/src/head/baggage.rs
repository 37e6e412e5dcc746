//! What a sender says about its workload, in the `baggage` header (W3C). For metrics and logs only.

use mesh::{Str, workload::WorkloadType};

/// Bytes of all `baggage` headers of one head that are read; W3C asks readers to take 8192.
const BYTES_MAX: usize = 8192;
/// Members that are looked at; W3C asks readers to take 64.
const MEMBERS_MAX: usize = 64;
/// Bytes of one value. The longest legitimate one is a Kubernetes name of 253.
const VALUE_BYTES_MAX: usize = 256;

const CLUSTER: &str = "k8s.cluster.name";
const NAMESPACE: &str = "k8s.namespace.name";
const DEPLOYMENT: &str = "k8s.deployment.name";
const CRON_JOB: &str = "k8s.cronjob.name";
const JOB: &str = "k8s.job.name";
const POD: &str = "k8s.pod.name";
const SERVICE_NAME: &str = "service.name";
const SERVICE_VERSION: &str = "service.version";
const REGION: &str = "cloud.region";
const ZONE: &str = "cloud.availability_zone";

/// A workload as it describes itself. Absent and empty are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<Str>,
    /// `k8s.namespace.name`.
    pub namespace: Option<Str>,
    /// `k8s.<deployment|cronjob|job|pod>.name`.
    pub workload: Option<(WorkloadType, Str)>,
    /// `service.name`: the canonical name.
    pub service: Option<Str>,
    /// `service.version`: the canonical revision.
    pub version: Option<Str>,
    /// `cloud.region`.
    pub region: Option<Str>,
    /// `cloud.availability_zone`.
    pub zone: Option<Str>,
}

/// `baggage` as it is on the wire. It is printed once for many connections, and read only by who has to: nearly
/// always the mesh knows the workload itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaggageText(Option<Str>);

impl BaggageText {
    /// What it says.
    pub fn read(&self) -> Baggage {
        self.as_str().map(Baggage::parse).unwrap_or_default()
    }

    /// The text; none where nothing is said.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Takes one header more, unless all together are longer than is read.
    pub(super) fn take(&mut self, text: &str) {
        self.0 = match self.0.take() {
            None if text.len() <= BYTES_MAX => Some(text.into()),
            Some(before) if before.len() + 1 + text.len() <= BYTES_MAX => Some(format!("{before},{text}").into()),
            kept => kept,
        };
    }
}

impl From<&Baggage> for BaggageText {
    fn from(baggage: &Baggage) -> Self {
        Self(baggage.print().map(Into::into))
    }
}

impl From<&mesh::Workload> for BaggageText {
    fn from(workload: &mesh::Workload) -> Self {
        Self::from(&Baggage::from(workload))
    }
}

impl Baggage {
    /// Reads a header's text; of a key that comes twice, the last one counts.
    pub fn parse(text: &str) -> Self {
        let mut baggage = Self::default();
        text.split(',').take(MEMBERS_MAX).for_each(|member| baggage.take(member));
        baggage
    }

    /// The header that says this; none where there is nothing to say.
    pub fn print(&self) -> Option<String> {
        let workload = self.workload.as_ref().map(|(kind, name)| (kind_key(*kind), name));
        let members = [
            (CLUSTER, self.cluster.as_ref()),
            (NAMESPACE, self.namespace.as_ref()),
            (workload.map_or(POD, |(key, _)| key), workload.map(|(_, name)| name)),
            (SERVICE_NAME, self.service.as_ref()),
            (SERVICE_VERSION, self.version.as_ref()),
            (REGION, self.region.as_ref()),
            (ZONE, self.zone.as_ref()),
        ];
        let mut text = String::new();
        for (key, value) in members {
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(key);
            text.push('=');
            encode(value, &mut text);
        }
        (!text.is_empty()).then_some(text)
    }

    /// Takes one `key=value;properties`, where it is one of ours.
    fn take(&mut self, member: &str) {
        let member = member.split(';').next().unwrap_or_default();
        let Some((key, value)) = member.split_once('=') else { return };
        let value = decode(value.trim());
        match key.trim() {
            CLUSTER => self.cluster = value,
            NAMESPACE => self.namespace = value,
            DEPLOYMENT => self.workload = value.map(|name| (WorkloadType::Deployment, name)),
            CRON_JOB => self.workload = value.map(|name| (WorkloadType::CronJob, name)),
            JOB => self.workload = value.map(|name| (WorkloadType::Job, name)),
            POD => self.workload = value.map(|name| (WorkloadType::Pod, name)),
            SERVICE_NAME => self.service = value,
            SERVICE_VERSION => self.version = value,
            REGION => self.region = value,
            ZONE => self.zone = value,
            _ => {}
        }
    }
}

impl From<&mesh::Workload> for Baggage {
    fn from(workload: &mesh::Workload) -> Self {
        let some = |text: &Str| (!text.is_empty()).then(|| text.clone());
        Self {
            cluster: some(&workload.cluster_id),
            namespace: some(&workload.namespace),
            workload: some(&workload.workload_name).map(|name| (workload.workload_type, name)),
            service: some(&workload.canonical_name),
            version: some(&workload.canonical_revision),
            region: some(&workload.locality.region),
            zone: some(&workload.locality.zone),
        }
    }
}

fn kind_key(kind: WorkloadType) -> &'static str {
    match kind {
        WorkloadType::Deployment => DEPLOYMENT,
        WorkloadType::CronJob => CRON_JOB,
        WorkloadType::Job => JOB,
        WorkloadType::Pod => POD,
    }
}

/// Percent-decodes a value. One that is empty, too long, no text, or has control characters
/// (they would reach logs and labels) is absent.
fn decode(text: &str) -> Option<Str> {
    if text.is_empty() || text.len() > 3 * VALUE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            // A lone percent sign stands for itself: senders exist that do not encode.
            _ => bytes.push(*first),
        }
    }
    let value = String::from_utf8(bytes).ok()?;
    let good = value.len() <= VALUE_BYTES_MAX && !value.chars().any(char::is_control);
    good.then(|| value.into())
}

/// Percent-encodes what may not stand in a value (W3C `baggage-octet`), and the percent sign.
fn encode(value: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'%') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}
