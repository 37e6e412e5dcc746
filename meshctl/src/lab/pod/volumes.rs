//! What a pod's containers find in their environment and in their volumes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::lab::container::Mount;
use crate::lab::plan::PodPlan;
use crate::lab::plan::podspec::{ConfigVolume, Container, KeyRef, ProjectedSource, Volume};
use crate::lab::site::Site;

/// Where every pod finds its service account, as kubelet mounts it.
const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a pod cannot be given what it asks for, yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotYet {
    #[error("{kind} {name} is not there")]
    Missing { kind: &'static str, name: String },
    #[error("{kind} {name} has no entry {key}")]
    NoEntry { kind: &'static str, name: String, key: String },
    #[error("no token: {0}")]
    Token(String),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("container {0} mounts volume {1}, which the pod does not have")]
    NoVolume(String, String),
}

/// Makes all volumes of a pod below `dir`, or refreshes them: tokens are new
/// each time, configuration is what it is now.
pub(crate) fn write(site: &Site, pod: &PodPlan, dir: &Path) -> Result<(), NotYet> {
    for volume in &pod.spec.volumes {
        let at = dir.join(&volume.name);
        fs::create_dir_all(&at).map_err(|source| NotYet::Write { path: at.clone(), source })?;
        write_volume(site, pod, volume, &at)?;
    }
    if site.mesh {
        let at = dir.join(".account");
        fs::create_dir_all(&at).map_err(|source| NotYet::Write { path: at.clone(), source })?;
        put(&at, "token", token(site, pod)?.as_bytes())?;
        put(&at, "namespace", pod.key.namespace.as_bytes())?;
    }
    Ok(())
}

fn write_volume(site: &Site, pod: &PodPlan, volume: &Volume, at: &Path) -> Result<(), NotYet> {
    if let Some(source) = &volume.config_map {
        write_entries(site, pod, "ConfigMap", source, at)?;
    }
    if let Some(source) = &volume.secret {
        write_entries(site, pod, "Secret", source, at)?;
    }
    for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
        let ProjectedSource { service_account_token, config_map, secret } = source;
        if let Some(wanted) = service_account_token {
            put(at, &wanted.path, token(site, pod)?.as_bytes())?;
        }
        if let Some(source) = config_map {
            write_entries(site, pod, "ConfigMap", source, at)?;
        }
        if let Some(source) = secret {
            write_entries(site, pod, "Secret", source, at)?;
        }
    }
    Ok(())
}

fn token(site: &Site, pod: &PodPlan) -> Result<String, NotYet> {
    site.token(pod, SystemTime::now()).map_err(NotYet::Token)
}

fn write_entries(
    site: &Site,
    pod: &PodPlan,
    kind: &'static str,
    source: &ConfigVolume,
    at: &Path,
) -> Result<(), NotYet> {
    let Some(entries) = site.entries(kind, &pod.key.namespace, &source.name) else {
        if source.optional {
            return Ok(());
        }
        return Err(NotYet::Missing { kind, name: source.name.clone() });
    };
    if source.items.is_empty() {
        return entries.iter().try_for_each(|(key, bytes)| put(at, key, bytes));
    }
    for item in &source.items {
        let missing = || NotYet::NoEntry { kind, name: source.name.clone(), key: item.key.clone() };
        put(at, &item.path, entries.get(&item.key).ok_or_else(missing)?)?;
    }
    Ok(())
}

/// Writes a file whole: a reader sees the old content or the new one.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), NotYet> {
    // A name from a manifest must not lead out of the volume.
    let plain: PathBuf =
        Path::new(name).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    let path = dir.join(plain);
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        let new = path.with_extension("new~");
        fs::write(&new, bytes)?;
        fs::rename(&new, &path)
    };
    write().map_err(|source| NotYet::Write { path: path.clone(), source })
}

/// The mounts of one container.
pub(crate) fn mounts(site: &Site, pod: &PodPlan, container: &Container, dir: &Path) -> Result<Vec<Mount>, NotYet> {
    let mut mounts = Vec::new();
    for wanted in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == wanted.name);
        let volume = volume.ok_or_else(|| NotYet::NoVolume(container.name.clone(), wanted.name.clone()))?;
        let base = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => dir.join(&volume.name),
        };
        let source = wanted.sub_path.as_ref().map_or_else(|| base.clone(), |path| base.join(path));
        mounts.push(Mount { source, target: PathBuf::from(&wanted.mount_path), read_only: wanted.read_only });
    }
    let has_account = container.volume_mounts.iter().any(|mount| mount.mount_path == ACCOUNT_DIR);
    if site.mesh && !has_account {
        mounts.push(Mount { source: dir.join(".account"), target: PathBuf::from(ACCOUNT_DIR), read_only: true });
    }
    Ok(mounts)
}

/// The environment of one container, and its command with variables filled
/// in.
pub(crate) fn environment(
    site: &Site,
    pod: &PodPlan,
    container: &Container,
) -> Result<(BTreeMap<String, String>, Vec<String>), NotYet> {
    let mut env = site.base_env.clone();
    env.insert("HOSTNAME".to_owned(), pod.key.name.clone());
    for source in &container.env_from {
        for (kind, reference) in [("ConfigMap", &source.config_map_ref), ("Secret", &source.secret_ref)] {
            let Some(KeyRef { name, optional, .. }) = reference else { continue };
            match site.entries(kind, &pod.key.namespace, name) {
                Some(entries) => {
                    env.extend(entries.into_iter().map(|(key, value)| (format!("{}{key}", source.prefix), text(value))))
                }
                None if *optional => {}
                None => return Err(NotYet::Missing { kind, name: name.clone() }),
            }
        }
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(from)) => {
                if let Some(field) = &from.field_ref {
                    Some(field_of(pod, &field.field_path))
                } else if let Some(key) = &from.config_map_key_ref {
                    entry(site, pod, "ConfigMap", key)?
                } else if let Some(key) = &from.secret_key_ref {
                    entry(site, pod, "Secret", key)?
                } else {
                    None
                }
            }
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    let argv = container.command.iter().chain(&container.args).map(|word| expand(word, &env)).collect();
    Ok((env, argv))
}

fn entry(site: &Site, pod: &PodPlan, kind: &'static str, wanted: &KeyRef) -> Result<Option<String>, NotYet> {
    let Some(entries) = site.entries(kind, &pod.key.namespace, &wanted.name) else {
        let missing = NotYet::Missing { kind, name: wanted.name.clone() };
        return if wanted.optional { Ok(None) } else { Err(missing) };
    };
    match entries.get(&wanted.key) {
        Some(value) => Ok(Some(text(value.clone()))),
        None if wanted.optional => Ok(None),
        None => Err(NotYet::NoEntry { kind, name: wanted.name.clone(), key: wanted.key.clone() }),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A field of the pod, as the downward API names it; empty if it has none.
fn field_of(pod: &PodPlan, path: &str) -> String {
    let ip = |number: usize| pod.addresses.get(number).map(ToString::to_string).unwrap_or_default();
    match path {
        "status.podIP" => return ip(0),
        "status.podIPs" => return pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "status.hostIP" => return crate::lab::plan::ledger::node_addresses(pod.node_number)[0].to_string(),
        "spec.serviceAccountName" => return pod.service_account.clone(),
        _ => {}
    }
    // `metadata.labels['app']` is an entry of a map, everything else a path.
    let (path, key) = match path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        Some((map, key)) => (map, Some(key)),
        None => (path, None),
    };
    let pointer = format!("/{}", path.replace('.', "/"));
    let value = pod.object.pointer(&pointer);
    let value = key.map_or(value, |key| value.and_then(|map| map.get(key)));
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Fills in `$(NAME)`; `$$(NAME)` stays as `$(NAME)`, and so does a name that
/// is not set.
fn expand(word: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_kubernetes_does() {
        let env = BTreeMap::from([("PORT".to_owned(), "80".to_owned())]);
        let check = |word: &str, expected: &str| assert_eq!(expand(word, &env), expected);
        check("0.0.0.0:$(PORT)", "0.0.0.0:80");
        check("$$(PORT)", "$(PORT)");
        check("$(OTHER)", "$(OTHER)");
        check("$PORT $", "$PORT $");
        check("$(PORT", "$(PORT");
        check("", "");
    }
}
