//! What every part of a running lab may use.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use istiod_lite::authn::local::{TokenIssuer, TokenRequest};
use serde_json::Value;

use super::manifest::{Key, Objects};
use super::plan::PodPlan;
use super::rundir::RunDir;
use super::world::World;

/// The lab's directory, its network, and what is looked up by name.
pub(crate) struct Site {
    pub run_dir: RunDir,
    pub world: World,
    /// Whether the mesh's own programs run too.
    pub mesh: bool,
    /// The environment that every container begins with.
    pub base_env: BTreeMap<String, String>,
    /// How long service-account tokens hold.
    pub token_lifetime: Duration,
    /// The lab goes on without whoever started it.
    pub kept: AtomicBool,
    objects: Mutex<Arc<Objects>>,
    tokens: Mutex<Option<Arc<TokenIssuer>>>,
}

impl Site {
    pub(crate) fn new(
        run_dir: RunDir,
        world: World,
        mesh: bool,
        base_env: BTreeMap<String, String>,
        token_lifetime: Duration,
    ) -> Self {
        Self {
            run_dir,
            world,
            mesh,
            base_env,
            token_lifetime,
            kept: AtomicBool::new(false),
            objects: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// From now on these are the lab's objects.
    pub(crate) fn set_objects(&self, objects: Arc<Objects>) {
        *self.objects.lock().expect("no holder panics") = objects;
    }

    /// The entries of a ConfigMap or Secret; `None` if there is no such.
    pub(crate) fn entries(&self, kind: &str, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let objects = self.objects.lock().expect("no holder panics").clone();
        if let Some(object) = objects.get(&Key::new(kind, namespace, name)) {
            return Some(read_entries(&object.value, kind == "Secret"));
        }
        // As in a cluster, every namespace has the mesh's root certificate.
        if kind == "ConfigMap" && name == "istio-ca-root-cert" {
            let pem = std::fs::read(self.run_dir.state().join("root-cert.pem")).ok()?;
            return Some(BTreeMap::from([("root-cert.pem".to_owned(), pem)]));
        }
        None
    }

    /// A token of the pod's service account, good from now on.
    pub(crate) fn token(&self, pod: &PodPlan, now: SystemTime) -> Result<String, String> {
        let mut tokens = self.tokens.lock().expect("no holder panics");
        let issuer = match tokens.as_ref() {
            Some(issuer) => issuer.clone(),
            None => {
                let opened = TokenIssuer::open(&self.run_dir.state()).map_err(|error| error.to_string())?;
                tokens.insert(Arc::new(opened)).clone()
            }
        };
        drop(tokens);
        let request = TokenRequest {
            namespace: &pod.key.namespace,
            service_account: &pod.service_account,
            pod: &pod.key.name,
            pod_uid: &pod.uid,
            node: &pod.node,
            lifetime: self.token_lifetime,
        };
        issuer.issue(&request, now).map_err(|error| error.to_string())
    }
}

fn read_entries(object: &Value, base64: bool) -> BTreeMap<String, Vec<u8>> {
    let section = |name: &str| super::plan::string_map(object.get(name)).into_iter();
    let plain = section("data").chain(section("stringData"));
    let mut entries: BTreeMap<_, _> = plain.map(|(key, text)| (key, text.into_bytes())).collect();
    if base64 {
        entries.extend(section("data").map(|(key, text)| (key, decode_base64(&text))));
        entries.extend(section("stringData").map(|(key, text)| (key, text.into_bytes())));
    } else {
        entries.extend(section("binaryData").map(|(key, text)| (key, decode_base64(&text))));
    }
    entries
}

/// What is not base64 is skipped, as line breaks are.
fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for value in text.bytes().filter_map(digit) {
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_base64_and_config_maps_are_not() {
        let object = json!({ "data": { "a": "aGk=" }, "stringData": { "b": "x" }, "binaryData": { "c": "AP8=" } });
        let check = |secret, key: &str, bytes: &[u8]| assert_eq!(read_entries(&object, secret)[key], bytes, "{key}");
        check(true, "a", b"hi");
        check(true, "b", b"x");
        check(false, "a", b"aGk=");
        check(false, "c", &[0, 255]);
    }
}
