//! The README of a chart: what it installs, and every value with its default.

use crate::values::{Chart, Entry, leaves};
use serde_json::Value;

const PRINTED: &str = "<!-- Printed from values.yaml by the tests of testkit; change the comments there. -->";

pub(crate) fn of_chart(chart: &Chart) -> String {
    let (name, about) = (&chart.name, &chart.description);
    let rows = table(&chart.leaves());
    let hub = if chart.children("global").iter().any(|entry| entry.key == "hub") {
        " --set global.hub=REGISTRY/PATH"
    } else {
        ""
    };
    format!(
        "# Chart {name}\n\n{PRINTED}\n\n{about}\n\n    helm install {name} charts/{name} -n istio-system --create-namespace{hub}\n\n\
         [docs/kubernetes.md](../../docs/kubernetes.md) says in which order the charts are installed, upgraded and removed, and\n\
         chart [ambient](../ambient) installs all of them. A name that is not in this table is refused.\n\n## Values\n\n{rows}"
    )
}

pub(crate) fn of_umbrella(chart: &Chart, globals: &[Entry]) -> String {
    let about = &chart.description;
    let rows = table(&chart.leaves());
    let globals = table(&leaves(globals));
    format!(
        "# Chart ambient\n\n{PRINTED}\n\n{about}\n\n    helm install ambient charts/ambient -n istio-system --create-namespace --set global.hub=REGISTRY/PATH\n\n\
         It is made of the charts [base](../base), [istiod-lite](../istiod-lite) (as `istiod`), [cni](../cni) and\n\
         [ztunnel](../ztunnel). Each has its values below its name here, and `false` in `<name>.enabled` leaves it out.\n\n\
         ## Values\n\n{rows}\n## Values under `global`\n\nAll parts see them.\n\n{globals}"
    )
}

fn table(entries: &[(String, &Entry)]) -> String {
    let mut text = String::from("| value | default | meaning |\n|---|---|---|\n");
    for (path, entry) in entries {
        let about = entry.about.replace('|', "\\|");
        let words = entry.form("enum").map(|words| {
            let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).map(|word| format!("`{word}`")).collect();
            format!(" One of {}.", words.join(", "))
        });
        let words = words.unwrap_or_default();
        text.push_str(&format!("| `{path}` | {} | {about}{words} |\n", default(&entry.default)));
    }
    text
}

fn default(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}
