//! `meshctl zc`: what a node proxy knows, in the columns of
//! `istioctl ztunnel-config`. It reads the proxy's config dump: from a file,
//! from an address, or from a proxy of a lab.

mod tables;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use http::{Method, Uri};
use serde_json::Value;

use crate::app::http::fetch;
use crate::lab::client::Lab;
use crate::lab::show;

/// How long a proxy may take to write everything it knows.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a node proxy knows.
#[derive(Debug, Args)]
pub(crate) struct ZcCommand {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
struct From {
    /// Read a config dump from a file; `-` is standard input.
    #[arg(long, short, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Ask the admin port of a proxy.
    #[arg(long, global = true, value_name = "URL", default_value = "http://localhost:15000")]
    address: String,
    /// Ask a proxy of a lab.
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["file", "address"])]
    lab: Option<String>,
    /// Of which node, in a lab.
    #[arg(long, global = true, value_name = "NODE", default_value = "node1")]
    node: String,
    /// How to print it.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Workloads.
    #[command(visible_aliases = ["w", "workloads"])]
    Workload {
        /// Only of this namespace.
        #[arg(long)]
        workload_namespace: Option<String>,
    },
    /// Services.
    #[command(visible_aliases = ["s", "svc", "services"])]
    Service {
        /// Only of this namespace.
        #[arg(long)]
        service_namespace: Option<String>,
    },
    /// Policies.
    #[command(visible_aliases = ["p", "pol", "policies"])]
    Policy {
        /// Only of this namespace.
        #[arg(long)]
        policy_namespace: Option<String>,
    },
    /// Certificates.
    #[command(visible_aliases = ["certs", "certificates"])]
    Certificate,
    /// Open connections.
    #[command(visible_aliases = ["cons", "connection"])]
    Connections {
        /// Only of pods of this namespace.
        #[arg(long)]
        workload_namespace: Option<String>,
    },
    /// What is logged; changes it if a level is given.
    #[command(visible_alias = "o")]
    Log {
        /// The new level: `debug`, or pairs such as `info,access=off`.
        #[arg(long)]
        level: Option<String>,
        /// Go back to the level of the start.
        #[arg(long, short, conflicts_with = "level")]
        reset: bool,
    },
    /// Everything but connections and log levels.
    All,
}

/// Carries out a command.
pub(crate) fn run(command: ZcCommand) -> anyhow::Result<ExitCode> {
    let ZcCommand { what, from } = command;
    if let What::Log { level, reset } = &what {
        anyhow::ensure!(from.file.is_none(), "a file has no log level: give --address or --lab");
        let query = match level {
            Some(level) => format!("?level={}", encode(level)),
            None if *reset => "?level=reset".to_owned(),
            None => String::new(),
        };
        print!("{}", from.ask(&Method::POST, &format!("/logging{query}"))?);
        return Ok(ExitCode::SUCCESS);
    }
    let text = match &from.file {
        Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())?,
        Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        None => from.ask(&Method::GET, "/config_dump")?,
    };
    let dump: Value = serde_json::from_str(&text).context("this is no config dump")?;
    let now = chassis::telemetry::rfc3339(SystemTime::now());
    let (key, tables) = match &what {
        What::Workload { workload_namespace } => {
            ("workloads", vec![tables::workloads(&dump, workload_namespace.as_deref())])
        }
        What::Service { service_namespace } => {
            ("services", vec![tables::services(&dump, service_namespace.as_deref())])
        }
        What::Policy { policy_namespace } => ("policies", vec![tables::policies(&dump, policy_namespace.as_deref())]),
        What::Certificate => ("certificates", vec![tables::certificates(&dump, &now)]),
        What::Connections { workload_namespace } => {
            ("workloadState", vec![tables::connections(&dump, workload_namespace.as_deref())])
        }
        What::All | What::Log { .. } => {
            let all = [tables::workloads(&dump, None), tables::services(&dump, None), tables::policies(&dump, None)];
            ("", all.into_iter().chain([tables::certificates(&dump, &now)]).collect())
        }
    };
    if from.output == Output::Json {
        println!("{:#}", if key.is_empty() { &dump } else { &dump[key] });
        return Ok(ExitCode::SUCCESS);
    }
    let texts: Vec<_> = tables.iter().map(|table| show::table(table.headers, &table.rows)).collect();
    print!("{}", texts.join("\n"));
    Ok(ExitCode::SUCCESS)
}

impl From {
    /// Asks the proxy's admin port.
    fn ask(&self, method: &Method, path: &str) -> anyhow::Result<String> {
        if let Some(name) = &self.lab {
            let lab = Lab::attach(name)?;
            let report = lab.status()?;
            let proxies = report.pods.iter().filter(|pod| pod.namespace == "istio-system" && pod.node == self.node);
            let proxy = proxies.filter(|pod| pod.name.starts_with("ztunnel-")).max_by_key(|pod| pod.name.clone());
            let proxy = proxy.with_context(|| format!("there is no proxy on {}", self.node))?;
            let url = format!("http://localhost:15000{path}");
            let mut argv = vec!["meshctl", "app", "get", &url];
            if method == Method::POST {
                argv.push("--post");
            }
            let output = lab.exec(&format!("{}/{}", proxy.namespace, proxy.name), &argv)?;
            anyhow::ensure!(output.code == 0, "{}{}", output.error_text(), output.text());
            return Ok(output.text());
        }
        let url: Uri =
            format!("{}{path}", self.address.trim_end_matches('/')).parse().context("--address is no URL")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (head, body) = runtime.block_on(async {
            tokio::time::timeout(DEADLINE, fetch(method, &url, &[]))
                .await
                .context("the proxy does not answer in time")?
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        anyhow::ensure!(head.status.is_success(), "{url} answers {}: {}", head.status, text.trim());
        Ok(text)
    }
}

/// Percent-encodes what may not stand in a query.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,:=".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
