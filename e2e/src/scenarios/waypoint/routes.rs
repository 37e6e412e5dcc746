//! One real request, or more, for each match, filter and rule of precedence.
//!
//! A case is some objects and what requests give then. What is expected is a line of words: the
//! status first, then `by=BACKEND`, `path=`, `query=` and `req.HEADER=` as the request arrived,
//! `res.HEADER=` and `body=` as the answer came back; `-` stands for none. `closed`: there is no answer.

mod gateway_api;
mod istio;
mod precedence;
mod streams;
mod traffic_policy;
mod virtual_service;

use super::{Answer, CLIENT, GUEST, ask};
use crate::stage::Stage;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// An answer is as expected this soon after the objects are applied; one that is not fails the scenario at its end.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is expected of a connection that is closed without an answer.
const CLOSED: &str = "closed";

/// How a call of gRPC is sent.
const GRPC: &[&str] = &["--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc"];

/// (options of curl, path or URL, what is expected). A first option `guest` asks from the other namespace.
pub(super) type Ask = (&'static [&'static str], &'static str, &'static str);

/// Some objects, and what requests give then.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Rules of an `HTTPRoute` for the service `store` if it begins with `-`, else whole objects.
    yaml: &'static str,
    /// What is asked in turn.
    asks: &'static [Ask],
}

impl Case {
    fn objects(&self) -> String {
        if !self.yaml.trim_start().starts_with('-') {
            return self.yaml.to_owned();
        }
        let rules: String = self.yaml.trim().lines().map(|line| format!("    {}\n", line)).collect();
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {}, namespace: mall }}\n\
             spec:\n  parentRefs: [{{ group: '', kind: Service, name: store, port: 80 }}]\n  rules:\n{rules}",
            self.name
        )
    }
}

/// Runs the scenario for Gateway API's kinds.
pub fn gateway_api(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    run(stage, seen, &[gateway_api::CASES, precedence::CASES], "store.mall")
}

/// Runs the scenario for Istio's kinds.
pub fn istio(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    run(stage, seen, &[istio::CASES, virtual_service::CASES], "store-v1.mall")
}

/// Runs the scenario for our own kind.
pub fn traffic_policy(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    run(stage, seen, &[traffic_policy::CASES], "store.mall")
}

/// Runs the scenario for connections.
pub fn streams(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    run(stage, seen, &[streams::CASES], "stream.mall")
}

fn run(stage: &mut Stage, seen: &mut Vec<String>, cases: &[&[Case]], host: &str) -> Result<()> {
    super::open(stage)?;
    let cases: Vec<&Case> = cases.iter().copied().flatten().collect();
    let (mut requests, mut wrong) = (0, Vec::new());
    for case in &cases {
        let objects = case.objects();
        stage.apply_by_age(&objects).with_context(|| case.name)?;
        for (options, path, expected) in case.asks {
            let mut last = String::new();
            let waited = stage.wait("it is as expected", PATIENCE, |stage| {
                last = match asked(stage, host, options, path, expected)? {
                    None => return Ok(true),
                    Some(mismatch) => mismatch,
                };
                Ok(false)
            });
            requests += 1;
            if let Err(error) = waited {
                wrong.push(format!("{}: {options:?} {path}: not {expected:?}: {last} ({error:#})", case.name));
            }
        }
        stage.delete(&objects).with_context(|| case.name)?;
    }
    ensure!(wrong.is_empty(), "{} of {requests} requests:\n{}", wrong.len(), wrong.join("\n"));
    seen.push(format!("{} cases, {requests} requests, all as expected", cases.len()));
    Ok(())
}

/// Asks once; what is not as expected.
pub(super) fn asked(stage: &Stage, host: &str, options: &[&str], path: &str, expected: &str) -> Result<Option<String>> {
    let (pod, options) = match options {
        ["guest", rest @ ..] => (GUEST, rest),
        options => (CLIENT, options),
    };
    let url = if path.starts_with('/') { format!("http://{host}{path}") } else { path.to_owned() };
    let answer = ask(stage, pod, &url, options);
    if expected == CLOSED {
        return Ok(answer.ok().map(|answer| format!("an answer: {answer:?}")));
    }
    match answer {
        Ok(answer) => mismatch(&answer, expected),
        Err(error) => Ok(Some(format!("{error:#}"))),
    }
}

/// What of an answer is not as expected.
fn mismatch(answer: &Answer, expected: &str) -> Result<Option<String>> {
    let mut words = expected.split(' ');
    let status = words.next().unwrap_or_default();
    if status != answer.status.to_string() {
        return Ok(Some(format!("status {}: {}", answer.status, answer.body)));
    }
    for word in words {
        let (key, wanted) = word.split_once('=').context("a word is key=value")?;
        let found = match key {
            "by" => answer.header("x-backend").to_owned(),
            "body" => answer.body.trim().to_owned(),
            "path" => answer.arrived()?.path,
            "query" => answer.arrived()?.query.unwrap_or_else(|| "-".into()),
            _ => match key.split_once('.') {
                Some(("req", name)) => answer.arrived()?.header(name),
                Some(("res", name)) => answer.header(name).to_owned(),
                _ => bail!("{key} is not a word that is known here"),
            },
        };
        let found = found.replace(' ', "");
        if found != wanted {
            return Ok(Some(format!("{key} is {found:?}: {answer:?}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_compared_word_by_word() {
        let answer = Answer { status: 200, headers: [("x-backend".into(), "v1".into())].into(), body: "hi".into() };
        assert_eq!(mismatch(&answer, "200 by=v1 body=hi res.location=-").unwrap(), None);
        assert!(mismatch(&answer, "200 by=v2").unwrap().is_some());
        assert!(mismatch(&answer, "404").unwrap().is_some());
        assert!(mismatch(&answer, "200 moon=full").is_err());
    }

    #[test]
    fn every_case_has_a_name_of_its_own_and_asks_something() {
        let mut names = std::collections::BTreeSet::new();
        for case in [
            gateway_api::CASES,
            precedence::CASES,
            istio::CASES,
            virtual_service::CASES,
            traffic_policy::CASES,
            streams::CASES,
        ]
        .concat()
        {
            assert!(names.insert(case.name), "{}", case.name);
            assert!(!case.asks.is_empty(), "{}", case.name);
        }
    }
}
