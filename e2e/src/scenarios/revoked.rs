//! A certificate that is revoked before its time is over: nothing new with it, and what is open breaks off.

use super::{attacks, identity};
use crate::{apps::hold, stage::Stage};
use anyhow::{Context, Result, ensure};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};
use std::time::Duration;

/// Where the node proxies look for lists.
pub const LISTS: &[(&str, &str, &str)] = &[("ztunnel", "CRL_PATH", "/tmp/ca-crl.pem")];
/// A list is looked at twice a second.
const SEEN: Duration = Duration::from_secs(10);

const MANIFESTS: &str = "\
    apiVersion: v1\nkind: Namespace\nmetadata: { name: safe, labels: { istio.io/dataplane-mode: ambient } }\n---\n\
    apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: thief, namespace: safe }\n---\n\
    apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: honest, namespace: safe }\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: { name: thief, namespace: safe }\n\
    spec: { nodeName: node1, serviceAccountName: thief, containers: [{ name: sleep, command: [sleep, infinity] }] }\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: { name: honest, namespace: safe }\n\
    spec: { nodeName: node1, serviceAccountName: honest, containers: [{ name: sleep, command: [sleep, infinity] }] }\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: { name: vault, namespace: safe }\n\
    spec: { nodeName: node2, serviceAccountName: honest, containers: [{ name: app, command: [E2E, app, serve, --name, vault] }] }\n";

/// Gives both node proxies this text as their lists, in one moment, as a mounted volume changes.
fn publish(stage: &Stage, text: &str) -> Result<()> {
    let path = LISTS[0].2;
    for node in ["node1", "node2"] {
        let script = format!("printf %s \"$1\" > {path}.new && mv {path}.new {path}");
        stage.exec(&format!("istio-system/ztunnel-{node}"), &["sh", "-c", &script, "sh", text])?.ok()?;
    }
    Ok(())
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(MANIFESTS)?;
    let pods = ["safe/thief", "safe/honest", "safe/vault"];
    stage.ready(&pods)?;
    stage.enrolled(&pods, true)?;
    let vault = stage.pod_addresses("safe/vault")?[0];
    let (web, held) = (format!("{vault}:8081"), format!("{vault}:7777"));
    for pod in ["safe/thief", "safe/honest"] {
        stage.wait("the vault answers", SEEN, |stage| Ok(stage.answers(pod, &web)))?;
    }
    let mut open = Vec::new();
    for (pod, seconds) in [("safe/thief", "20"), ("safe/honest", "5")] {
        let file = Stage::fresh_path();
        open.push(stage.app(pod, &["hold", &held, "--seconds", seconds, "--ready-file", &file])?);
        stage.written(pod, &file)?;
    }

    let number = identity::held(stage, "ns/safe/sa/thief", "serialNumber")?;
    publish(stage, &list(stage, &[SerialNumber::from(bytes(&number)?)])?)?;
    let honest = open.pop().context("two were opened")?;
    let thief: hold::Report = open.pop().context("two were opened")?.report()?;
    let honest: hold::Report = honest.report()?;
    ensure!(thief.end == "reset" || thief.end == "closed", "a revoked caller's open connection: {thief:?}");
    ensure!(honest.end == "time", "somebody else's connection ended: {honest:?}");
    ensure!(!stage.answers("safe/thief", &web), "a revoked caller still gets in");
    ensure!(stage.answers("safe/honest", &web), "somebody else does not get in");
    let logs = stage.logs("istio-system/ztunnel-node2")?;
    ensure!(logs.contains("the peer's certificate has been revoked"), "the log does not say why: {logs}");
    let metrics = stage.metrics("istio-system/ztunnel-node2", 15020)?;
    let counted = |line: &str| {
        let value = line.strip_prefix("istio_crl_policy_rejections_total{reporter=\"destination\"} ");
        value.and_then(|value| value.trim().parse::<f64>().ok()).is_some_and(|count| count >= 2.0)
    };
    ensure!(
        metrics.contains("response_flags=\"CERT_REVOKED\""),
        "connections that ended so are not told of: {metrics}"
    );
    ensure!(metrics.lines().any(counted), "refusals are not counted: {metrics}");
    seen.push(
        "a revoked certificate: its open connection broke off, new ones are refused; others are untouched".into(),
    );

    publish(stage, "-----BEGIN X509 CRL-----\nnonsense\n-----END X509 CRL-----\n")?;
    stage.wait("the broken list is told of", SEEN, |stage| {
        Ok(stage.logs("istio-system/ztunnel-node2")?.contains("the revocation lists stay as they were"))
    })?;
    ensure!(!stage.answers("safe/thief", &web), "a broken list let a revoked caller in");
    publish(stage, &list(stage, &[])?)?;
    stage.wait("the caller gets in again", SEEN, |stage| Ok(stage.answers("safe/thief", &web)))?;
    seen.push("a broken list changes nothing and is told of; an empty one lets the caller in again".into());
    Ok(())
}

/// The bytes of a decimal number, the greatest first.
fn bytes(decimal: &str) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new(); // the least first
    for digit in decimal.chars() {
        let mut carry = digit.to_digit(10).with_context(|| format!("{decimal:?} is no number"))?;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.reverse();
    Ok(bytes)
}

/// A list of the mesh's authority.
fn list(stage: &Stage, revoked: &[SerialNumber]) -> Result<String> {
    let key = KeyPair::from_pem(&attacks::state(stage, "ca-key.pem")?)?;
    let issuer = Issuer::from_ca_cert_pem(&attacks::state(stage, "ca-cert.pem")?, key)?;
    let date = |year| rcgen::date_time_ymd(year, 1, 1);
    let entry = |serial: &SerialNumber| RevokedCertParams {
        serial_number: serial.clone(),
        revocation_time: date(2025),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date(2025),
        next_update: date(2100),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&issuer)?.pem()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_decimal_number_becomes_its_bytes() {
        for (decimal, bytes) in [
            ("0", &[][..]),
            ("7", &[7]),
            ("256", &[1, 0]),
            ("65535", &[255, 255]),
            ("18446744073709551616", &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(super::bytes(decimal).unwrap(), bytes, "{decimal}");
        }
        assert!(super::bytes("0x1").is_err());
    }
}
