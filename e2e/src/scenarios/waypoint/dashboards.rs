//! The queries of Istio's service and workload dashboards that a waypoint can answer: those with a
//! reporter to choose, and of them those for mTLS, for a waypoint serves nothing else.
//!
//! The dashboards repeat a few shapes over the labels of a service, of a workload, of whoever calls
//! it and of whom it calls; so does this list.

/// What the variables of the dashboards are set to.
const VARIABLES: [(&str, &str); 7] = [
    ("$qrep", "waypoint"),
    ("$service", "store.mall.svc.cluster.local"),
    ("$stream", "stream.mall.svc.cluster.local"),
    ("$workload", "store-v1"),
    ("$srcwl", "client"),
    ("$srcns", "mall"),
    ("$dstsvc", ".*"),
];

const QUANTILES: [&str; 4] = ["0.50", "0.90", "0.95", "0.99"];

/// The labels of a row of panels: of all that is shown, and of its parts.
struct Row {
    /// Which series of requests.
    of: &'static str,
    /// Which series of connections.
    of_tcp: &'static str,
    /// What they are told apart by.
    by: &'static str,
}

/// One number for a service, and for a workload.
const TOTALS: [Row; 2] = [
    Row {
        of: "reporter=~\"$qrep\",destination_service=~\"$service\"",
        of_tcp: "reporter=~\"$qrep\", destination_service=~\"$stream\"",
        by: "",
    },
    Row {
        of: "reporter=~\"$qrep\",destination_workload_namespace=~\"mall\",destination_workload=~\"$workload\"",
        of_tcp: "reporter=~\"$qrep\", destination_workload_namespace=~\"mall\", destination_workload=~\"$workload\"",
        by: "",
    },
];

/// Who calls a service, which workloads serve it, who calls a workload, and which services it calls.
const PARTS: [Row; 4] = [
    Row {
        of: "connection_security_policy=\"mutual_tls\", destination_service=~\"$service\", reporter=~\"$qrep\", \
             source_workload=~\"$srcwl\", source_workload_namespace=~\"$srcns\"",
        of_tcp: "connection_security_policy=\"mutual_tls\", destination_service=~\"$stream\", reporter=~\"$qrep\", \
                 source_workload=~\"$srcwl\", source_workload_namespace=~\"$srcns\"",
        by: "source_workload, source_workload_namespace",
    },
    Row {
        of: "connection_security_policy=\"mutual_tls\", destination_service=~\"$service\", reporter=~\"$qrep\", \
             destination_workload=~\"$workload\", destination_workload_namespace=~\"mall\"",
        of_tcp: "connection_security_policy=\"mutual_tls\", destination_service=~\"$stream\", reporter=~\"$qrep\", \
                 destination_workload=~\"$workload\", destination_workload_namespace=~\"mall\"",
        by: "destination_workload, destination_workload_namespace",
    },
    Row {
        of: "reporter=~\"$qrep\", connection_security_policy=\"mutual_tls\", destination_workload=~\"$workload\", \
             destination_workload_namespace=~\"mall\", source_workload=~\"$srcwl\", source_workload_namespace=~\"$srcns\"",
        of_tcp: "reporter=~\"$qrep\", connection_security_policy=\"mutual_tls\", destination_workload=~\"$workload\", \
                 destination_workload_namespace=~\"mall\", source_workload=~\"$srcwl\", source_workload_namespace=~\"$srcns\"",
        by: "source_workload, source_workload_namespace",
    },
    Row {
        of: "destination_principal=~\"spiffe.*\", source_workload_namespace=~\"$srcns\", source_workload=~\"$srcwl\", \
             reporter=~\"$qrep\", destination_service=~\"$dstsvc\"",
        of_tcp: "connection_security_policy=\"mutual_tls\", reporter=~\"$qrep\", source_workload_namespace=~\"$srcns\", \
                 source_workload=~\"$srcwl\", destination_service=~\"$dstsvc\"",
        by: "destination_service",
    },
];

/// What the variables offer to choose from.
const CHOICES: [&str; 6] = [
    "sum(istio_requests_total{reporter=~\"$qrep\"}) by (destination_service) or \
     sum(istio_tcp_sent_bytes_total{reporter=~\"$qrep\"}) by (destination_service)",
    "sum(istio_requests_total{reporter=~\"$qrep\", destination_service=\"$service\"}) by (source_cluster)",
    "sum(istio_requests_total{reporter=~\"$qrep\", destination_service=\"$service\"}) by (source_workload_namespace)",
    "sum(istio_requests_total{reporter=~\"$qrep\", destination_service=\"$service\", \
     source_workload_namespace=~\"$srcns\"}) by (source_workload)",
    "sum(istio_requests_total{reporter=~\"$qrep\", destination_service=\"$service\"}) by (destination_cluster)",
    "sum(istio_requests_total{reporter=~\"$qrep\", destination_service=\"$service\", \
     destination_workload_namespace=~\"mall\"}) by (destination_workload)",
];

/// Every query, with its variables set.
pub(super) fn queries() -> Vec<String> {
    let mut all: Vec<String> = CHOICES.iter().map(|query| (*query).to_owned()).collect();
    for row in &TOTALS {
        let Row { of, of_tcp, .. } = row;
        all.push(format!("round(sum(irate(istio_requests_total{{{of}}}[5m])), 0.001)"));
        all.push(format!(
            "sum(irate(istio_requests_total{{{of},response_code!~\"5.*\"}}[5m])) / \
             (sum(irate(istio_requests_total{{{of}}}[5m])) or on () vector(1))"
        ));
        all.extend(["0.50", "0.90", "0.99"].map(|quantile| duration(quantile, of, "le")));
        for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
            all.push(format!("sum(irate({metric}{{{of_tcp}}}[1m]))"));
        }
        all.push(format!(
            "sum(irate(istio_tcp_sent_bytes_total{{{of_tcp}}}[1m])) + \
             sum(irate(istio_tcp_received_bytes_total{{{of_tcp}}}[1m]))"
        ));
    }
    for Row { of, of_tcp, by } in &PARTS {
        all.push(format!("round(sum(irate(istio_requests_total{{{of}}}[5m])) by ({by}, response_code), 0.001)"));
        all.push(format!(
            "sum(irate(istio_requests_total{{{of},response_code!~\"5.*\"}}[5m])) by ({by}) / \
             sum(irate(istio_requests_total{{{of}}}[5m])) by ({by})"
        ));
        let per_bucket = format!("{by}, le");
        all.extend(QUANTILES.map(|quantile| duration(quantile, of, &per_bucket)));
        for metric in ["istio_request_bytes_bucket", "istio_response_bytes_bucket"] {
            all.extend(QUANTILES.map(|quantile| {
                format!("histogram_quantile({quantile}, sum(irate({metric}{{{of}}}[1m])) by ({per_bucket}))")
            }));
        }
        for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
            all.push(format!("round(sum(irate({metric}{{{of_tcp}}}[1m])) by ({by}), 0.001)"));
        }
    }
    all.into_iter().map(set).collect()
}

/// A quantile of durations in seconds, from either of the two metrics that Istio has had for them.
fn duration(quantile: &str, of: &str, by: &str) -> String {
    let of_metric = |metric: &str| {
        format!(
            "histogram_quantile({quantile}, sum(irate(istio_request_duration_{metric}_bucket{{{of}}}[1m])) by ({by}))"
        )
    };
    format!("({} / 1000) or {}", of_metric("milliseconds"), of_metric("seconds"))
}

fn set(query: String) -> String {
    VARIABLES.iter().fold(query, |query, (name, value)| query.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_set() {
        let all = queries();
        assert_eq!(all.len(), 6 + 2 * 8 + 4 * 16);
        assert!(all.iter().all(|query| !query.contains('$')), "{all:#?}");
    }
}
