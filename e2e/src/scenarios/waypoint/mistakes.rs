//! Configuration that cannot be used: a condition names field and reason, the last good rules stay,
//! others are untouched, and a policy that is not understood closes.

use super::{CLIENT, ask};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A mistake is told this soon.
const TOLD: Duration = Duration::from_secs(10);

/// What is good, what is broken, and the words that say so.
struct Mistake {
    kind: &'static str,
    /// With `VALUE` where the good or the broken one goes.
    object: &'static str,
    good: &'static str,
    broken: &'static str,
    /// Words of the status or of the problems.
    told: &'static [&'static str],
    /// It is a policy: what it is for is closed.
    closes: bool,
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        kind: "HTTPRoute",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: mistake, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, port: 80 }]
  rules:
    - matches: [{ headers: [{ name: x-any, type: RegularExpression, value: 'VALUE' }] }, { path: { value: / } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-mark, value: HTTPRoute }] } }]
      backendRefs: [{ name: store-v1, port: 80 }]",
        good: ".*",
        broken: "(",
        told: &["HTTPRoute", "mistake", "rules[0]"],
        closes: false,
    },
    Mistake {
        kind: "VirtualService",
        object: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: mistake, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { regex: 'VALUE' } }]
      headers: { response: { set: { x-mark: VirtualService } } }
      route: [{ destination: { host: store-v1 } }]",
        good: "/.*",
        broken: "/[",
        told: &["VirtualService", "mistake", "rule 0"],
        closes: false,
    },
    Mistake {
        kind: "GRPCRoute",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: mistake, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, port: 80 }]
  rules:
    - matches: [{ headers: [{ name: x-any, type: RegularExpression, value: 'VALUE' }] }, {}]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-mark, value: GRPCRoute }] } }]
      backendRefs: [{ name: store-v1, port: 80 }]",
        good: ".*",
        broken: "*",
        told: &["GRPCRoute", "mistake", "rules[0]"],
        closes: false,
    },
    Mistake {
        kind: "AuthorizationPolicy",
        object: "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  rules: [{ when: [{ key: 'VALUE', notValues: [nothing] }] }]",
        good: "request.headers[x-any]",
        broken: "request.moods[x-any]",
        told: &["AuthorizationPolicy", "mistake", "request.moods"],
        closes: true,
    },
    Mistake {
        kind: "RequestAuthentication",
        object: "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  jwtRules: [{ issuer: a, jwks: 'VALUE' }]",
        good: "{\"keys\":[]}",
        broken: "no keys",
        told: &["RequestAuthentication", "mistake", "jwtRules[0]"],
        closes: false,
    },
    Mistake {
        kind: "DestinationRule",
        object: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: mistake, namespace: mall }
spec: { host: store-v1, trafficPolicy: { loadBalancer: { simple: VALUE } } }",
        good: "ROUND_ROBIN",
        broken: "MOST_LOVED",
        told: &["DestinationRule", "mistake", "MOST_LOVED"],
        closes: false,
    },
    Mistake {
        kind: "TrafficPolicy",
        object: "
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  rateLimit: [{ requests: 100000, per: VALUE }]",
        good: "1s",
        broken: "soon",
        told: &["TrafficPolicy", "mistake", "rateLimit[0]", "per"],
        closes: false,
    },
    Mistake {
        kind: "Telemetry",
        object: "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  accessLogging: [{ filter: { expression: 'VALUE' } }]",
        good: "response.code >= 400",
        broken: "response.code >=",
        told: &["Telemetry", "mistake", "filter of the access log"],
        closes: false,
    },
];

/// Everything the control plane says of objects.
fn said(stage: &Stage) -> Result<String> {
    Ok(format!("{}\n{}", stage.told("status")?, stage.told("problems")?))
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    for mistake in MISTAKES {
        let kind = mistake.kind;
        let good = mistake.object.replace("VALUE", mistake.good);
        let marks = mistake.object.contains("x-mark");
        stage.apply(&good).context(kind)?;
        stage.wait(&format!("{kind} is in force"), super::RULES_DEADLINE, |stage| {
            let answer = ask(stage, CLIENT, "http://store-v1.mall/", &[])?;
            Ok(answer.status == 200 && (!marks || answer.header("x-mark") == kind))
        })?;
        stage.apply(&mistake.object.replace("VALUE", mistake.broken)).context(kind)?;
        let mut last = String::new();
        stage
            .wait(&format!("{kind}: the mistake is told with {:?}", mistake.told), TOLD, |stage| {
                last = said(stage)?;
                Ok(mistake.told.iter().all(|word| last.contains(word)))
            })
            .with_context(|| last.clone())?;
        let answer = ask(stage, CLIENT, "http://store-v1.mall/", &[])?;
        if mistake.closes {
            // What was good before stays; nothing is known that would let more pass.
            ensure!(answer.status == 200, "{kind}: the last good policy stays: {answer:?}");
        } else {
            ensure!(answer.status == 200, "{kind}: {answer:?}");
            ensure!(!marks || answer.header("x-mark") == kind, "{kind}: the last good rules are gone: {answer:?}");
        }
        ensure!(
            ask(stage, CLIENT, "http://store-v2.mall/", &[])?.status == 200,
            "{kind}: another service is disturbed"
        );
        stage.delete(&good).context(kind)?;
        if mistake.closes {
            stage.wait(&format!("{kind} is forgotten"), TOLD, |stage| Ok(!said(stage)?.contains("mistake")))?;
            // Of this one nothing good was ever known.
            stage.apply(&mistake.object.replace("VALUE", mistake.broken)).context(kind)?;
            stage.wait(&format!("{kind}: not understood is closed"), super::RULES_DEADLINE, |stage| {
                Ok(ask(stage, CLIENT, "http://store-v1.mall/", &[])?.status == 403)
            })?;
            ensure!(ask(stage, CLIENT, "http://store-v2.mall/", &[])?.status == 200, "{kind}: another is disturbed");
            stage.delete(&good).context(kind)?;
        }
        stage.wait(&format!("{kind} is gone"), super::RULES_DEADLINE, |stage| {
            let answer = ask(stage, CLIENT, "http://store-v1.mall/", &[])?;
            Ok(answer.status == 200 && answer.header("x-mark") == "-")
        })?;
        seen.push(format!("{kind}: told with {}; the last good rules stay", mistake.told.join(", ")));
    }
    Ok(())
}
