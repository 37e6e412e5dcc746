//! The programs that make load, and what they print: iperf3, wrk, h2load.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;

/// More answers than one of a thousand that are no good, and a measurement says nothing.
const FAILED_MAX: f64 = 0.001;

/// What a load of requests came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requests {
    /// Answers a second.
    pub rate: f64,
    /// 99 of 100 took at most so many seconds.
    pub p99: f64,
}

/// The command that moves bytes as fast as it can, over some streams.
pub fn iperf3(to: SocketAddr, streams: usize, seconds: f64) -> Vec<String> {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    words(&["iperf3", "-J", "-c", &host, "-p", &port, "-P", &streams.to_string(), "-t", &format!("{seconds:.0}")])
}

/// The bits a second that arrived.
pub fn read_iperf3(text: &str) -> Result<f64> {
    let report: serde_json::Value = serde_json::from_str(text).context("iperf3 prints JSON")?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.with_context(|| format!("iperf3 moved nothing: {}", report["error"]))
}

/// The command that asks again and again, each connection as soon as it was answered.
pub fn wrk(url: &str, connections: usize, seconds: f64, headers: &[&str]) -> Vec<String> {
    let (connections, seconds) = (connections.to_string(), format!("{seconds:.0}s"));
    let mut argv = words(&["wrk", "-t", "1", "-c", &connections, "-d", &seconds, "--timeout", "10s", "--latency"]);
    argv.extend(headers.iter().flat_map(|header| words(&["-H", header])));
    argv.push(url.to_owned());
    argv
}

/// What `wrk --latency` prints.
pub fn read_wrk(text: &str) -> Result<Requests> {
    let after = |label: &str| text.lines().find_map(|line| line.trim_start().strip_prefix(label)).map(str::trim);
    let rate: f64 = after("Requests/sec:").and_then(|text| text.parse().ok()).context("wrk tells no rate")?;
    let p99 = after("99%").and_then(seconds).context("wrk tells no latency")?;
    let whole = text.lines().find_map(|line| line.split_once(" requests in ")).map(|(count, _)| count.trim());
    let whole: f64 = whole.and_then(|count| count.parse().ok()).context("wrk tells no count")?;
    let errors =
        after("Socket errors:").unwrap_or_default().split(',').filter_map(|part| part.split_whitespace().nth(1));
    let errors: f64 = errors.filter_map(|count| count.parse::<f64>().ok()).sum();
    let bad: f64 = after("Non-2xx or 3xx responses:").and_then(|text| text.parse().ok()).unwrap_or(0.0);
    ensure!(
        whole > 0.0 && errors + bad <= whole * FAILED_MAX,
        "of {whole} requests {errors} failed and {bad} were refused"
    );
    Ok(Requests { rate, p99 })
}

/// The command that sends requests of HTTP/2, over connections with streams in each.
pub fn h2load(url: &str, connections: usize, streams: usize, seconds: f64, more: &[&str]) -> Vec<String> {
    let (connections, streams) = (connections.to_string(), streams.to_string());
    let seconds = format!("{seconds:.0}");
    let mut argv = words(&["h2load", "-t", "1", "-c", &connections, "-m", &streams, "-D", &seconds]);
    argv.extend(words(more));
    argv.push(url.to_owned());
    argv
}

/// What h2load prints: answers a second that were good.
pub fn read_h2load(text: &str) -> Result<f64> {
    let finished = text.lines().find_map(|line| line.strip_prefix("finished in ")).context("h2load did not finish")?;
    let rate = finished.split(", ").find_map(|part| part.strip_suffix(" req/s")).and_then(|text| text.parse().ok());
    let rate: f64 = rate.context("h2load tells no rate")?;
    let requests = text.lines().find_map(|line| line.strip_prefix("requests: ")).context("h2load counts nothing")?;
    let count = |name: &str| -> f64 {
        let part = requests.split(", ").find_map(|part| part.strip_suffix(name));
        part.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
    };
    let (done, failed) = (count(" done"), count(" failed") + count(" errored") + count(" timeout"));
    ensure!(done > 0.0 && failed <= done * FAILED_MAX, "of {done} requests {failed} failed: {requests}");
    let statuses = text.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_default();
    let good =
        statuses.split(", ").find_map(|part| part.strip_suffix(" 2xx")).and_then(|text| text.parse::<f64>().ok());
    ensure!(good.is_some_and(|good| good >= done * (1.0 - FAILED_MAX)), "of {done} answers were good: {statuses}");
    Ok(rate)
}

/// `1.23ms` in seconds.
pub fn seconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("ms", 1e-3), ("m", 60.0), ("s", 1.0)];
    let (number, scale) = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    number.trim().parse::<f64>().ok().map(|number| number * scale)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_says_what_arrived() {
        let text = r#"{"end":{"sum_sent":{"bits_per_second":3},"sum_received":{"bits_per_second":2.5e9}}}"#;
        assert_eq!(read_iperf3(text).unwrap(), 2.5e9);
        assert!(read_iperf3(r#"{"error":"unable to connect"}"#).is_err());
    }

    #[test]
    fn wrk_says_rate_and_latency() {
        let text = |more: &str| {
            format!(
                "Running 2s test @ http://10.0.0.1:8080/\n  1 threads and 16 connections\n  Latency Distribution\n     \
                 50%  170.00us\n     99%    1.25ms\n  181234 requests in 2.00s, 31.00MB read\n{more}\
                 Requests/sec:  90617.00\nTransfer/sec:     15.50MB\n"
            )
        };
        assert_eq!(read_wrk(&text("")).unwrap(), Requests { rate: 90617.0, p99: 0.00125 });
        assert!(read_wrk(&text("  Socket errors: connect 0, read 3, write 0, timeout 1\n")).is_ok());
        assert!(read_wrk(&text("  Socket errors: connect 0, read 3000, write 0, timeout 0\n")).is_err());
        assert!(read_wrk(&text("  Non-2xx or 3xx responses: 181234\n")).is_err());
    }

    #[test]
    fn h2load_counts_what_was_good() {
        let text = |done: u32, failed: u32, good: u32| {
            format!(
                "finished in 5.00s, 41234.20 req/s, 4.51MB/s\nrequests: {done} total, {done} started, {done} done, \
                 {good} succeeded, {failed} failed, {failed} errored, 0 timeout\nstatus codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx\n"
            )
        };
        assert_eq!(read_h2load(&text(206_171, 0, 206_171)).unwrap(), 41234.2);
        assert!(read_h2load(&text(206_171, 20_000, 186_171)).is_err());
        assert!(read_h2load(&text(206_171, 0, 0)).is_err());
    }

    #[test]
    fn durations_have_units() {
        for (text, want) in [("417.00us", 417e-6), ("1.25ms", 0.00125), ("2.00s", 2.0), ("1.50m", 90.0)] {
            assert!((seconds(text).unwrap() - want).abs() < 1e-12, "{text}");
        }
        assert_eq!(seconds("12"), None);
    }
}
