//! A config dump as tables. Pure. What is missing in a dump is an empty cell,
//! because dumps come from proxies of other versions too.

use serde_json::Value;

/// Rows under headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub headers: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
}

fn table(headers: &'static [&'static str], mut rows: Vec<Vec<String>>) -> Table {
    rows.sort();
    Table { headers, rows }
}

/// The entries of a list, or of a map by name: readers take both.
fn entries<'a>(dump: &'a Value, key: &str) -> Vec<&'a Value> {
    match dump.get(key) {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn first(value: &Value, key: &str) -> String {
    value.get(key).and_then(|list| list.get(0)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn of_namespace(value: &Value, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|wanted| value.get("namespace").and_then(Value::as_str) == Some(wanted))
}

/// The name of a waypoint, as people know it: without the cluster's domain.
fn waypoint(value: &Value) -> String {
    let Some(destination) = value.pointer("/waypoint/destination").and_then(Value::as_str) else {
        return "None".to_owned();
    };
    let name = destination.rsplit('/').next().unwrap_or(destination);
    // An address is shown whole, a hostname by its first label.
    if name.parse::<std::net::IpAddr>().is_ok() {
        return name.to_owned();
    }
    name.split('.').next().unwrap_or(name).to_owned()
}

/// A virtual address without its network.
fn vip(text: &str) -> String {
    text.rsplit('/').next().unwrap_or(text).to_owned()
}

pub(crate) fn workloads(dump: &Value, namespace: Option<&str>) -> Table {
    let rows = entries(dump, "workloads").into_iter().filter(|value| of_namespace(value, namespace)).map(|value| {
        let protocol = text(value, "protocol");
        vec![
            text(value, "namespace"),
            text(value, "name"),
            first(value, "workloadIps"),
            text(value, "node"),
            waypoint(value),
            if protocol.is_empty() { "TCP".to_owned() } else { protocol },
        ]
    });
    table(&["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"], rows.collect())
}

pub(crate) fn services(dump: &Value, namespace: Option<&str>) -> Table {
    let rows = entries(dump, "services").into_iter().filter(|value| of_namespace(value, namespace)).map(|value| {
        let ends = entries(value, "endpoints");
        let healthy = ends.iter().filter(|end| text(end, "status") != "Unhealthy").count();
        let addresses = value.get("vips").and_then(Value::as_array).into_iter().flatten();
        let addresses: Vec<_> = addresses.filter_map(Value::as_str).map(vip).collect();
        vec![
            text(value, "namespace"),
            text(value, "name"),
            addresses.join(","),
            waypoint(value),
            format!("{healthy}/{}", ends.len()),
        ]
    });
    table(&["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"], rows.collect())
}

pub(crate) fn policies(dump: &Value, namespace: Option<&str>) -> Table {
    let rows = entries(dump, "policies").into_iter().filter(|value| of_namespace(value, namespace));
    let rows = rows.map(|value| ["namespace", "name", "action", "scope"].map(|key| text(value, key)).to_vec());
    table(&["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"], rows.collect())
}

/// `now` is a moment as the dump writes it.
pub(crate) fn certificates(dump: &Value, now: &str) -> Table {
    let headers = &["CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
    let mut rows = Vec::new();
    for value in entries(dump, "certificates") {
        let chain = value.get("certChain").and_then(Value::as_array).into_iter().flatten().enumerate();
        let chain = chain.map(|(place, one)| (if place == 0 { "Leaf" } else { "Intermediate" }, one));
        let roots = value.get("rootCerts").and_then(Value::as_array).into_iter().flatten().map(|one| ("Root", one));
        let before = rows.len();
        for (kind, one) in chain.chain(roots) {
            let (end, begin) = (text(one, "expirationTime"), text(one, "validFrom"));
            // Moments in UTC, written alike, are in the order of their texts.
            let valid = begin.as_str() <= now && now < end.as_str();
            let serial = hexadecimal(&text(one, "serialNumber"));
            let name = text(value, "identity");
            rows.push(vec![name, kind.to_owned(), text(value, "state"), valid.to_string(), serial, end, begin]);
        }
        if rows.len() == before {
            let (identity, state) = (text(value, "identity"), text(value, "state"));
            let unknown = String::new;
            rows.push(vec![identity, unknown(), state, false.to_string(), unknown(), unknown(), unknown()]);
        }
    }
    Table { headers, rows }
}

pub(crate) fn connections(dump: &Value, namespace: Option<&str>) -> Table {
    let mut rows = Vec::new();
    for pod in entries(dump, "workloadState") {
        let info = pod.get("info").unwrap_or(&Value::Null);
        if !of_namespace(info, namespace) {
            continue;
        }
        let name = format!("{}.{}", text(info, "name"), text(info, "namespace"));
        for (list, direction) in [("inbound", "Inbound"), ("outbound", "Outbound")] {
            let Some(connections) = pod.get("connections") else { continue };
            for one in entries(connections, list) {
                let (src, asked, reached) = (text(one, "src"), text(one, "originalDst"), text(one, "actualDst"));
                // What is local is the pod's own end.
                let (local, remote, target) =
                    if list == "inbound" { (reached, src, asked) } else { (src, reached, asked) };
                rows.push(vec![name.clone(), direction.to_owned(), local, remote, target, text(one, "protocol")]);
            }
        }
    }
    table(&["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"], rows)
}

/// A decimal number of any length in hexadecimal; what is no number stays.
fn hexadecimal(decimal: &str) -> String {
    // Serial numbers have 20 bytes at most, 49 digits; longer is no serial.
    if decimal.is_empty() || decimal.len() > 64 || !decimal.bytes().all(|byte| byte.is_ascii_digit()) {
        return decimal.to_owned();
    }
    let mut digits: Vec<u32> = vec![0];
    for letter in decimal.bytes() {
        let mut carry = u32::from(letter - b'0');
        for digit in &mut digits {
            let value = *digit * 10 + carry;
            (*digit, carry) = (value % 16, value / 16);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|digit| char::from_digit(*digit, 16).unwrap_or('0')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dump() -> Value {
        let leaf = json!({ "serialNumber": "255", "validFrom": "2026-01-01T00:00:00Z",
            "expirationTime": "2026-01-02T00:00:00Z" });
        json!({
            "workloads": [
                { "workloadIps": ["10.0.0.2"], "name": "b", "namespace": "shop", "node": "n2", "protocol": "HBONE",
                  "waypoint": { "destination": "shop/wp.shop.svc.cluster.local" } },
                { "workloadIps": ["10.0.0.1"], "name": "a", "namespace": "other", "node": "n1" },
            ],
            "services": { "shop/web": { "name": "web", "namespace": "shop", "vips": ["/10.1.0.1", "net/10.1.0.2"],
                "endpoints": { "x": { "status": "Healthy" }, "y": { "status": "Unhealthy" } } } },
            "policies": [{ "name": "p", "namespace": "shop", "action": "Deny", "scope": "Namespace" }],
            "certificates": [
                { "identity": "spiffe://x", "state": "Available", "certChain": [leaf], "rootCerts": [leaf] },
                { "identity": "spiffe://y", "state": "Initializing", "certChain": [], "rootCerts": [] },
            ],
            "workloadState": { "uid": { "info": { "name": "a", "namespace": "shop" }, "connections": {
                "inbound": [{ "src": "1", "originalDst": "2", "actualDst": "3", "protocol": "HBONE" }], "outbound": [] } } },
        })
    }

    fn check(table: &Table, expected: &[&str]) {
        let rows: Vec<_> = table.rows.iter().map(|row| row.join("|")).collect();
        assert_eq!(rows, expected);
        assert!(table.rows.iter().all(|row| row.len() == table.headers.len()));
    }

    #[test]
    fn each_kind_has_the_columns_of_istioctl() {
        let dump = dump();
        check(&workloads(&dump, None), &["other|a|10.0.0.1|n1|None|TCP", "shop|b|10.0.0.2|n2|wp|HBONE"]);
        check(&services(&dump, None), &["shop|web|10.1.0.1,10.1.0.2|None|1/2"]);
        check(&policies(&dump, None), &["shop|p|Deny|Namespace"]);
        check(&connections(&dump, None), &["a.shop|Inbound|3|1|2|HBONE"]);
    }

    #[test]
    fn a_namespace_leaves_out_the_others() {
        check(&workloads(&dump(), Some("shop")), &["shop|b|10.0.0.2|n2|wp|HBONE"]);
        check(&policies(&dump(), Some("x")), &[]);
        check(&connections(&dump(), Some("x")), &[]);
    }

    #[test]
    fn certificates_are_valid_between_their_ends() {
        let row = |kind: &str, valid: bool| {
            format!("spiffe://x|{kind}|Available|{valid}|ff|2026-01-02T00:00:00Z|2026-01-01T00:00:00Z")
        };
        for (now, valid) in
            [("2026-01-01T12:00:00Z", true), ("2026-01-02T00:00:00Z", false), ("2025-12-31T23:59:59Z", false)]
        {
            let (leaf, root) = (row("Leaf", valid), row("Root", valid));
            check(&certificates(&dump(), now), &[&leaf, &root, "spiffe://y||Initializing|false|||"]);
        }
    }

    #[test]
    fn serial_numbers_are_hexadecimal_at_any_length() {
        for (decimal, hex) in [
            ("0", "0"),
            ("16", "10"),
            ("340282366920938463463374607431768211455", "ffffffffffffffffffffffffffffffff"),
            ("", ""),
            ("x", "x"),
        ] {
            assert_eq!(hexadecimal(decimal), hex);
        }
    }

    #[test]
    fn a_dump_of_another_shape_is_an_empty_table() {
        for dump in [json!({}), json!([]), json!({ "workloads": 7, "workloadState": { "a": 1 } })] {
            assert!(workloads(&dump, None).rows.is_empty());
            assert!(connections(&dump, None).rows.is_empty());
        }
    }
}
