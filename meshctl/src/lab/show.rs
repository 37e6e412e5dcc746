//! Tables for people, as kubectl prints them: columns aligned, no lines.

use super::control::protocol::StatusReport;

/// Rows under upper-case headers, columns three spaces apart.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = headers.iter().map(|header| header.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&format!("{cell:<width$}   "));
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut headers.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// The whole state of a lab.
pub(crate) fn status(report: &StatusReport) -> String {
    let nodes: Vec<_> = report.nodes.iter().map(|node| vec![node.name.clone(), node.addresses.join(",")]).collect();
    let pods: Vec<_> = report
        .pods
        .iter()
        .map(|pod| {
            vec![
                pod.namespace.clone(),
                pod.name.clone(),
                format!("{}/{}", pod.ready, pod.containers),
                pod.status.clone(),
                pod.restarts.to_string(),
                pod.addresses.first().cloned().unwrap_or_default(),
                pod.node.clone(),
                pod.redirection.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let services: Vec<_> = report
        .services
        .iter()
        .map(|service| {
            let addresses = service.cluster_ips.join(",");
            vec![
                service.namespace.clone(),
                service.name.clone(),
                if addresses.is_empty() { "None".to_owned() } else { addresses },
                service.ports.join(","),
                format!("{}/{}", service.endpoints.0, service.endpoints.1),
            ]
        })
        .collect();
    let mut text = format!("lab {}: {}\n\n", report.name, if report.ready { "ready" } else { "not ready" });
    text.push_str(&table(&["NODE", "ADDRESSES"], &nodes));
    text.push('\n');
    let headers = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "NODE", "MESH"];
    text.push_str(&table(&headers, &pods));
    text.push('\n');
    text.push_str(&table(&["NAMESPACE", "SERVICE", "CLUSTER-IP", "PORTS", "ENDPOINTS"], &services));
    for problem in &report.problems {
        text.push_str(&format!("\n{problem}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["bcde".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X      Y\na      long cell\nbcde\n");
    }
}
