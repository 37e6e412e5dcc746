//! What Prometheus reads: a registry of prometheus-client, written in both text forms.

use prometheus_client::registry::Registry;

/// A filled registry, ready to be scraped.
pub struct Exposition {
    registry: Registry,
    before: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        let _ = (&self.registry, &self.before);
        todo!("lands next")
    }

    /// The older Prometheus text, format 0.0.4.
    pub fn prometheus_text(&self) -> String {
        todo!("lands next")
    }
}

/// Registers what is known of every process: file descriptors, memory, processor time, tasks of
/// the current tokio runtime and panics.
pub fn register_process(registry: &mut Registry) {
    let _ = registry;
    todo!("lands next")
}
