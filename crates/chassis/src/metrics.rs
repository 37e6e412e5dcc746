//! What Prometheus reads: a registry of prometheus-client, written in both text forms, and what
//! is known of every process.

use crate::{task, telemetry};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::ConstCounter,
        gauge::{ConstGauge, Gauge},
    },
};
use std::{fmt, fs, sync::atomic::AtomicU64};
use tokio::runtime::Handle;

pub use prometheus_client::registry::Registry;

/// A filled registry, ready to be scraped.
pub struct Exposition {
    registry: Registry,
    before: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Exposition {
    /// Wraps a registry that everybody has registered in.
    pub fn new(registry: Registry) -> Self {
        Self { registry, before: Vec::new() }
    }

    /// Calls `act` before each scrape, to bring values up to date. It must not block.
    #[must_use]
    pub fn before_scrape(mut self, act: impl Fn() + Send + Sync + 'static) -> Self {
        self.before.push(Box::new(act));
        self
    }

    /// The OpenMetrics text.
    pub fn open_metrics(&self) -> String {
        for act in &self.before {
            act();
        }
        let mut text = String::new();
        // Writing to a string cannot fail, and no metric of ours refuses to be written.
        let _never = encode(&mut text, &self.registry);
        text
    }

    /// The older Prometheus text, format 0.0.4.
    pub fn prometheus_text(&self) -> String {
        to_prometheus_text(&self.open_metrics())
    }
}

/// OpenMetrics text → Prometheus text 0.0.4. The old form names a counter's family with `_total`,
/// knows neither units nor an end mark, and calls `unknown` `untyped`. Gauges whose name ends as
/// parts of a histogram do (`…_count`) become `untyped` too, because readers of the old form take
/// them for such a part.
fn to_prometheus_text(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    // HELP comes before or after TYPE, and needs to know the type: both wait for the first sample.
    let (mut name, mut kind, mut help) = ("", "", "");
    for line in open_metrics.lines() {
        if let Some((of, text)) = line.strip_prefix("# HELP ").map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            (name, help) = (of, text);
        } else if let Some((of, text)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            (name, kind) = (of, text);
        } else if !line.starts_with('#') {
            if !name.is_empty() {
                let reserved = ["_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "gauge" | "stateset" if !reserved => ("", "gauge"),
                    "histogram" | "summary" => ("", kind),
                    _ => ("", "untyped"),
                };
                if !help.is_empty() {
                    plain.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                plain.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
                (name, help) = ("", "");
            }
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

/// Registers what is known of every process: file descriptors, memory, processor time, threads, the
/// tasks of the given runtimes, panics and lost log lines.
pub fn register_process(registry: &mut Registry, runtimes: Vec<Handle>) {
    registry.register_collector(Box::new(Process { runtimes, clock_ticks: clock_ticks() }));
}

/// A gauge `istio_build` that is 1 for this component and version.
pub fn register_build(registry: &mut Registry, component: &str, tag: &str) {
    let family = prometheus_client::metrics::family::Family::<Vec<(String, String)>, Gauge>::default();
    family.get_or_create(&vec![("component".into(), component.into()), ("tag".into(), tag.into())]).set(1);
    registry.register("istio_build", "Istio component build info", family);
}

#[derive(Debug)]
struct Process {
    runtimes: Vec<Handle>,
    clock_ticks: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        if let Some(seen) = Seen::now(self.clock_ticks) {
            gauge("process_resident_memory_bytes", "Resident memory in bytes", seen.resident_bytes)?;
            gauge("process_virtual_memory_bytes", "Virtual memory in bytes", seen.virtual_bytes)?;
            gauge("process_threads", "Threads of the process", seen.threads)?;
            gauge("process_start_time_seconds", "Start of the process since the epoch in seconds", seen.started)?;
            counter(&mut encoder, "process_cpu_seconds", "Processor time used in seconds", seen.cpu_seconds)?;
        }
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory that is being read is one of them.
            gauge("process_open_fds", "Open file descriptors", open.count().saturating_sub(1) as f64)?;
        }
        if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
            gauge("process_max_fds", "Limit of open file descriptors", soft as f64)?;
        }
        let metrics: Vec<_> = self.runtimes.iter().map(Handle::metrics).collect();
        let sum = |of: fn(&tokio::runtime::RuntimeMetrics) -> usize| metrics.iter().map(of).sum::<usize>() as f64;
        gauge("tokio_num_workers", "Threads that run tasks", sum(|m| m.num_workers()))?;
        gauge("tokio_num_alive_tasks", "Tasks that have not ended", sum(|m| m.num_alive_tasks()))?;
        gauge("tokio_global_queue_depth", "Tasks that wait for any worker", sum(|m| m.global_queue_depth()))?;
        let busy: f64 = metrics
            .iter()
            .flat_map(|m| (0..m.num_workers()).map(|w| m.worker_total_busy_duration(w).as_secs_f64()))
            .sum();
        counter(&mut encoder, "tokio_busy_seconds", "Time the workers were busy in seconds", busy)?;
        counter(&mut encoder, "process_panics", "Tasks that ended by a panic", task::panics() as f64)?;
        counter(&mut encoder, "log_lines_dropped", "Log lines that could not be written", telemetry::dropped() as f64)
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// A gauge that holds a fraction.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// What `/proc/self/stat` tells.
#[derive(Debug, PartialEq)]
struct Seen {
    cpu_seconds: f64,
    threads: f64,
    started: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Seen {
    fn now(clock_ticks: f64) -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let kernel = fs::read_to_string("/proc/stat").ok()?;
        let boot = kernel.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Self::parse(&stat, boot, clock_ticks, page_size())
    }

    fn parse(stat: &str, boot: f64, clock_ticks: f64, page_size: f64) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Numbered as in proc(5), where the state after the name is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / clock_ticks,
            threads: field(20)?,
            started: boot + field(22)? / clock_ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size,
        })
    }
}

fn clock_ticks() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks.ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

fn page_size() -> f64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096.0, |size| size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_form_names_counters_with_total_and_has_no_end_mark() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"# EOF\"} 1\n\
                    # HELP g A gauge.\n# TYPE g gauge\n# UNIT g bytes\ng 1\n\
                    # HELP p_count Proxies.\n# TYPE p_count gauge\np_count 2\n\
                    # HELP h Took.\n# TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n\
                    # HELP v Build.\n# TYPE v info\nv_info{tag=\"1\"} 1\n\
                    # HELP u Nobody knows.\n# TYPE u unknown\nu 1\n\
                    # HELP empty Nothing.\n# TYPE empty counter\n# EOF\n";
        assert_eq!(
            to_prometheus_text(open),
            "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"# EOF\"} 1\n\
             # HELP g A gauge.\n# TYPE g gauge\ng 1\n\
             # HELP p_count Proxies.\n# TYPE p_count untyped\np_count 2\n\
             # HELP h Took.\n# TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n\
             # HELP v_info Build.\n# TYPE v_info gauge\nv_info{tag=\"1\"} 1\n\
             # HELP u Nobody knows.\n# TYPE u untyped\nu 1\n"
        );
    }

    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_no_trouble() {
        let stat = "42 (a b) c) S 1 1 1 0 -1 4 1 0 0 0 150 50 0 0 20 0 7 0 1000 8192 3 99";
        assert_eq!(
            Seen::parse(stat, 500.0, 100.0, 4096.0),
            Some(Seen {
                cpu_seconds: 2.0,
                threads: 7.0,
                started: 510.0,
                virtual_bytes: 8192.0,
                resident_bytes: 12288.0
            })
        );
        for broken in ["", "1", "1 (x)", "1 (x) S 1 2"] {
            assert_eq!(Seen::parse(broken, 0.0, 100.0, 4096.0), None);
        }
    }

    #[tokio::test]
    async fn every_process_tells_its_descriptors_memory_and_time() {
        let mut registry = Registry::default();
        register_process(&mut registry, vec![Handle::current()]);
        register_build(&mut registry, "ztunnel", "test");
        let text = Exposition::new(registry).prometheus_text();
        for name in [
            "process_open_fds ",
            "process_max_fds ",
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "tokio_num_alive_tasks ",
            "istio_build{component=\"ztunnel\",tag=\"test\"} 1",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn values_are_brought_up_to_date_before_a_scrape() {
        let gauge = Gauge::<i64>::default();
        let mut registry = Registry::default();
        registry.register("seen", "Scrapes", gauge.clone());
        let exposition = Exposition::new(registry).before_scrape(move || {
            gauge.inc();
        });
        assert!(exposition.prometheus_text().contains("\nseen 1\n"));
        assert!(exposition.open_metrics().contains("\nseen 2\n# EOF\n"));
    }
}
