//! What became of objects, as the control plane of a lab says it.

use serde::Deserialize;

use super::{Lab, LabError};
use crate::lab::show;

/// One condition of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConditionReport {
    /// `Kind namespace/name`, and the part, parent or target that it is about.
    pub object: String,
    /// Its type.
    pub kind: String,
    /// Whether it is so.
    pub status: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    kind: String,
    namespace: String,
    name: String,
    conditions: Vec<SaidCondition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidCondition {
    parent: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl Lab {
    /// What the control plane says became of the objects of the mesh.
    pub fn conditions(&self) -> Result<Vec<ConditionReport>, LabError> {
        let page = "http://localhost:8080/debug/status";
        let output = self.exec("istio-system/istiod-0", &["meshctl", "app", "get", page])?;
        if output.code != 0 {
            return Err(LabError::Refused(format!("the control plane does not answer: {}", output.error_text())));
        }
        read(&output.text()).ok_or(LabError::Confused)
    }
}

fn read(text: &str) -> Option<Vec<ConditionReport>> {
    let objects: Vec<Said> = serde_json::from_str(text).ok()?;
    let flat = objects.into_iter().flat_map(|said| {
        let Said { kind, namespace, name, conditions } = said;
        let place = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
        conditions.into_iter().map(move |one| ConditionReport {
            object: match one.parent {
                Some(parent) => format!("{kind} {place} ({parent})"),
                None => format!("{kind} {place}"),
            },
            kind: one.kind,
            status: one.status == "True",
            reason: one.reason,
            message: one.message,
        })
    });
    Some(flat.collect())
}

/// Those that somebody should look at, for people.
pub(crate) fn table(all: &[ConditionReport]) -> String {
    // Of most conditions the good answer is yes; of these it is no.
    const BAD_IF_MET: [&str; 4] = ["Conflicted", "Overridden", "PartiallyInvalid", "istio.io/WaypointMissing"];
    let bad = |one: &&ConditionReport| one.status == BAD_IF_MET.contains(&one.kind.as_str());
    let rows: Vec<_> = all
        .iter()
        .filter(bad)
        .map(|one| vec![one.object.clone(), one.kind.clone(), one.reason.clone(), one.message.clone()])
        .collect();
    if rows.is_empty() { String::new() } else { show::table(&["OBJECT", "IS NOT WELL", "REASON", "MESSAGE"], &rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_well_is_shown() {
        let text = r#"[{"kind":"Service","namespace":"shop","name":"web","conditions":[
            {"parent":null,"type":"istio.io/WaypointBound","status":"False","reason":"WaypointIsNotReady","message":"wait"}]},
          {"kind":"Gateway","namespace":"shop","name":"wp","conditions":[
            {"type":"Accepted","status":"True","reason":"Accepted","message":"ok"},
            {"parent":"listener mesh","type":"Conflicted","status":"False","reason":"NoConflicts","message":"ok"}]}]"#;
        let all = read(text).expect("it is the page");
        assert_eq!(all.len(), 3);
        assert_eq!(all[2].object, "Gateway shop/wp (listener mesh)");
        let table = table(&all);
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(table.contains("Service shop/web   istio.io/WaypointBound   WaypointIsNotReady   wait"), "{table}");
        assert_eq!(super::table(&all[1..]), "");
    }
}
