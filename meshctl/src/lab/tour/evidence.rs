//! Reading what the mesh says of itself: access log lines, the certificates
//! of a config dump, metrics. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// One line of the access log, by field.
pub(crate) type Line = BTreeMap<String, String>;

/// The access log lines of a proxy's log, oldest first.
pub(crate) fn access_log(log: &str) -> Vec<Line> {
    let lines = log.lines().filter(|line| line.split('\t').nth(2) == Some("access"));
    lines.filter_map(|line| line.split('\t').nth(4)).map(fields).collect()
}

/// `key=value` and `key="value"`, separated by spaces.
fn fields(text: &str) -> Line {
    let mut found = Line::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        found.insert(key.trim().to_owned(), value.to_owned());
        rest = next.trim_start();
    }
    found
}

/// One workload certificate of a config dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub serial: String,
    pub valid_from: String,
    pub expires: String,
}

/// The certificate of an identity in a config dump.
pub(crate) fn certificate(dump: &Value, identity: &str) -> Option<Certificate> {
    let all = dump.get("certificates")?;
    // A list, or a map by name: readers take both.
    let all: Vec<&Value> = match all {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => return None,
    };
    let mine = all.into_iter().find(|entry| entry.get("identity").and_then(Value::as_str) == Some(identity))?;
    let leaf = mine.pointer("/certChain/0")?;
    let text = |name: &str| leaf.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    Some(Certificate {
        serial: text("serialNumber")?,
        valid_from: text("validFrom")?,
        expires: text("expirationTime")?,
    })
}

/// One sample of a metrics page, as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub labels: Line,
    pub value: f64,
}

/// The samples of one metric on a page in Prometheus' text format.
pub(crate) fn samples(page: &str, metric: &str) -> Vec<Sample> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(metric));
    lines
        .filter_map(|rest| {
            let (labels, value) = rest.strip_prefix('{')?.rsplit_once("} ")?;
            let value = value.split(' ').next()?.parse().ok()?;
            Some(Sample { labels: labels_of(labels), value })
        })
        .collect()
}

fn labels_of(text: &str) -> Line {
    let mut found = Line::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let (mut value, mut escaped, mut end) = (String::new(), false, after.len());
        for (at, letter) in after.char_indices() {
            match (escaped, letter) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = at + 1;
                    break;
                }
                (was, letter) => {
                    value.push(if was && letter == 'n' { '\n' } else { letter });
                    escaped = false;
                }
            }
        }
        found.insert(key.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
    }
    found
}

/// Whether `needle` is somewhere in `bytes`.
pub(crate) fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn access_lines_are_told_from_others() {
        let log = "t\tinfo\tztunnel::pods\tserving pod\tpod=\"x\"\n\
                   t\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:2 src.identity=\"spiffe://a/b c\" error=\"no\"\n";
        let lines = access_log(log);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["src.addr"], "10.0.0.1:2");
        assert_eq!(lines[0]["src.identity"], "spiffe://a/b c");
        assert_eq!(lines[0]["error"], "no");
    }

    #[test]
    fn a_certificate_is_found_by_identity() {
        let leaf = json!({ "serialNumber": "7", "validFrom": "a", "expirationTime": "b" });
        let entry = json!({ "identity": "spiffe://x", "certChain": [leaf] });
        for dump in [json!({ "certificates": [entry] }), json!({ "certificates": { "spiffe://x": entry } })] {
            assert_eq!(certificate(&dump, "spiffe://x").map(|found| found.serial), Some("7".to_owned()));
            assert_eq!(certificate(&dump, "spiffe://y"), None);
        }
        assert_eq!(certificate(&json!({}), "spiffe://x"), None);
    }

    #[test]
    fn samples_are_read_with_their_labels() {
        let page =
            "# HELP x y\nx_total{a=\"1\",b=\"a \\\"q\\\", {\"} 3\nx_total{a=\"2\"} 4 1700\nx_totals{a=\"1\"} 9\n";
        let found = samples(page, "x_total");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].labels["b"].as_str(), found[0].value), ("a \"q\", {", 3.0));
        assert_eq!((found[1].labels["a"].as_str(), found[1].value), ("2", 4.0));
    }
}
