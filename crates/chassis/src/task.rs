//! The only place that spawns. A task has a name, and somebody notices when it panics.
//!
//! A panic ends its own task and nothing else: it is logged with the task's name and counted.
//! What the process cannot live without is spawned by [`crate::run::Process::vital`] instead.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};
use tokio::{runtime::Handle, task::JoinHandle};

static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CURRENT: Cell<&'static str> = const { Cell::new("main") };
}

/// A task that runs. Dropping it ends the task, unless it was [detached](Task::detach).
#[derive(Debug)]
#[must_use = "dropping a task ends it; detach it if it should run on"]
pub struct Task<T> {
    handle: Option<JoinHandle<T>>,
}

/// Why a task has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnded {
    /// It panicked; the log says where.
    #[error("the task panicked")]
    Panicked,
    /// It was ended, or its runtime was.
    #[error("the task was ended")]
    Aborted,
}

/// Spawns on the current runtime.
pub fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(&Handle::current(), name, future)
}

/// Spawns on a given runtime.
pub fn spawn_on<F>(runtime: &Handle, name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { handle: Some(runtime.spawn(Named { name, future })) }
}

/// The name of the task that is being polled on this thread.
pub fn current() -> &'static str {
    CURRENT.get()
}

/// How many panics there were in this process.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Makes panics log lines with the name of the task. [`crate::run`] calls it.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(task = current(), place, "panic: {text}");
        // The log may be the very thing that is broken, so standard error is told too.
        eprintln!("panic in task {} at {place}: {text}", current());
    }));
}

impl<T> Task<T> {
    /// Lets the task run without anybody waiting for it.
    pub fn detach(mut self) {
        self.handle = None;
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(handle) = &mut self.handle else { return Poll::Ready(Err(TaskEnded::Aborted)) };
        Pin::new(handle)
            .poll(cx)
            .map(|result| result.map_err(|e| if e.is_panic() { TaskEnded::Panicked } else { TaskEnded::Aborted }))
    }
}

pin_project_lite::pin_project! {
    struct Named<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let outer = CURRENT.replace(this.name);
        let poll = this.future.poll(cx);
        // After a panic the name stays until the next poll on this thread, which sets its own.
        CURRENT.set(outer);
        poll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_knows_its_name() {
        assert_eq!(spawn("writer", async { current() }).await, Ok("writer"));
        assert_eq!(current(), "main");
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_task() {
        assert_eq!(spawn("faulty", async { panic!("on purpose") }).await, Err::<(), _>(TaskEnded::Panicked));
    }

    #[tokio::test]
    async fn a_dropped_task_ends() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        drop(spawn("endless", async move {
            std::future::pending::<()>().await;
            drop(sender);
        }));
        assert!(receiver.await.is_err());
    }

    #[tokio::test]
    async fn a_detached_task_runs_on() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        spawn("sender", async move { sender.send(7) }).detach();
        assert_eq!(receiver.await, Ok(7));
    }
}
