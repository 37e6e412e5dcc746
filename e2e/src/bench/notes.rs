//! Rows whose target is not met: where the time goes, what was tried, and what this machine can do at most. For people; the
//! page has each below its row.

/// What there is to say of a row.
pub fn of(row: &str) -> Option<&'static str> {
    Some(match row {
        "bulk" => include_str!("notes/bulk.md"),
        "requests" => include_str!("notes/requests.md"),
        "connections" => include_str!("notes/connections.md"),
        "memory" => include_str!("notes/memory.md"),
        "policies" => include_str!("notes/policies.md"),
        "slow-readers" => include_str!("notes/slow-readers.md"),
        "waypoint-http" => include_str!("notes/waypoint-http.md"),
        "waypoint-tunnels" => include_str!("notes/waypoint-tunnels.md"),
        "waypoint-routes" => include_str!("notes/waypoint-routes.md"),
        "waypoint-grpc" => include_str!("notes/waypoint-grpc.md"),
        "churn" => include_str!("notes/churn.md"),
        "view" => include_str!("notes/view.md"),
        "control-plane" => include_str!("notes/control-plane.md"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows;

    #[test]
    fn notes_are_of_rows() {
        let noted = rows::ALL.iter().filter(|row| of(row.name).is_some()).count();
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bench/notes")).unwrap().count();
        assert_eq!(noted, files);
    }
}
