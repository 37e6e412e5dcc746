//! The flags that Istio's charts pass to `discovery` and that say nothing here are taken all the same,
//! so that a chart need not know whose control plane it starts. Two of them say how to log.

use chassis::{
    env::Strings,
    run::{Options, RUST_LOG},
};
use std::ffi::OsString;

/// Istio's flags that have no meaning here, and whether a value follows.
const THEIRS: &[(&str, bool)] = &[
    ("--log_output_level", true),
    ("--log_as_json", false),
    ("--log_caller", true),
    ("--log_stacktrace_level", true),
    ("--log_target", true),
    ("--log_rotate", true),
    ("--log_rotate_max_age", true),
    ("--log_rotate_max_backups", true),
    ("--log_rotate_max_size", true),
    ("--vklog", true),
    ("--keepaliveInterval", true),
    ("--keepaliveMaxServerConnectionAge", true),
    ("--keepaliveTimeout", true),
    ("--grpcAddr", true),
    ("--meshConfig", true),
    ("--networksConfig", true),
    ("--profile", false),
    ("--registries", true),
    ("--resync", true),
    ("--shutdownDuration", true),
    ("--ctrlz_address", true),
    ("--ctrlz_port", true),
    ("--caCertFile", true),
    ("--tlsCertFile", true),
    ("--tlsKeyFile", true),
    ("--tls-cipher-suites", true),
    ("--kubernetesApiBurst", true),
    ("--kubernetesApiQPS", true),
    ("--clusterRegistriesNamespace", true),
    ("--clusterAliases", true),
    ("--plugins", true),
];

/// Flags that were taken away from the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Theirs {
    given: Vec<(String, String)>,
}

/// Takes Istio's flags out of a command line of `discovery`.
pub(crate) fn take(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, Theirs) {
    let (mut ours, mut theirs) = (Vec::new(), Theirs::default());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let (name, value) = text.split_once('=').map_or((&*text, None), |(name, value)| (name, Some(value)));
        let Some((name, takes_value)) = THEIRS.iter().find(|(known, _)| *known == name) else {
            ours.push(arg);
            continue;
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if *takes_value => args.next().unwrap_or_default().to_string_lossy().into_owned(),
            None => "true".to_owned(),
        };
        theirs.given.push(((*name).to_owned(), value));
    }
    (ours, theirs)
}

impl Theirs {
    /// What they say of the log, where the environment says nothing.
    pub(crate) fn lay_over(&self, mut options: Options, environment: &dyn Strings) -> Options {
        let said = |name: &str| environment.value(name).is_some_and(|value| !value.is_empty());
        if !said(RUST_LOG.row.name)
            && let Some(level) = self.value("--log_output_level").and_then(level)
        {
            options.log_filter = level.to_owned();
        }
        if !said("LOG_FORMAT") && self.value("--log_as_json") == Some("true") {
            options.log_format = "json".into();
        }
        options
    }

    /// Names them in the log.
    pub(crate) fn tell(&self) {
        for (flag, value) in &self.given {
            tracing::debug!(flag, value, "a flag of Istio's that says nothing here, or only how to log");
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| &**value)
    }
}

/// Our level for `default:info,ads:debug`; that of a scope that we do not have says nothing.
fn level(text: &str) -> Option<&'static str> {
    let default = text.split(',').find_map(|part| match part.split_once(':') {
        Some((scope, level)) => matches!(scope.trim(), "default" | "all").then_some(level),
        None => Some(part),
    });
    match default?.trim() {
        "none" => Some("off"),
        "fatal" | "error" => Some("error"),
        "warn" => Some("warn"),
        "info" => Some("info"),
        "debug" => Some("debug"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_command_line_of_istios_chart_is_taken() {
        let line = "istiod discovery --monitoringAddr=:15014 --log_output_level=default:debug,ads:none --domain cluster.local \
                    --log_as_json --keepaliveMaxServerConnectionAge 30m --state-dir /state";
        let (ours, theirs) = take(line.split_whitespace().map(OsString::from));
        assert_eq!(
            ours,
            ["istiod", "discovery", "--monitoringAddr=:15014", "--domain", "cluster.local", "--state-dir", "/state"]
        );
        let names: Vec<_> = theirs.given.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["--log_output_level", "--log_as_json", "--keepaliveMaxServerConnectionAge"]);
        let options = theirs.lay_over(Options::new("istiod-lite"), &BTreeMap::new());
        assert_eq!((&*options.log_filter, &*options.log_format), ("debug", "json"));
        let said = BTreeMap::from([("RUST_LOG".to_owned(), "warn".to_owned())]);
        assert_eq!(theirs.lay_over(Options::new("istiod-lite"), &said).log_filter, "info", "the environment counts");
    }

    #[test]
    fn a_level_is_that_of_everything() {
        for (text, want) in [
            ("default:info", Some("info")),
            ("ads:debug,all:warn", Some("warn")),
            ("debug", Some("debug")),
            ("ads:debug", None),
            ("default:loud", None),
            ("", None),
        ] {
            assert_eq!(level(text), want, "{text:?}");
        }
    }
}
