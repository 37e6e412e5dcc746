//! What a connection's driver and its tunnels share, and the one short lock on it.

use super::{code::Code, core::Core};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// One connection, for all who use it.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Core>);

impl Shared {
    pub(super) fn new(core: Core) -> Arc<Self> {
        Arc::new(Self(Mutex::new(core)))
    }

    /// Does something with it, and wakes whom that concerns: after the lock, as a waker may let go
    /// of a task that holds a tunnel of this very connection.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.lock();
        let result = act(&mut core);
        let driver = core.stirred();
        let wakes = if core.wakes.is_empty() { Vec::new() } else { std::mem::take(&mut core.wakes) };
        drop(core);
        if let Some(driver) = driver {
            driver.wake();
        }
        if !wakes.is_empty() {
            wakes.into_iter().for_each(Waker::wake);
        }
        result
    }

    /// The same for the driver, which is not to be woken and brings a list that it keeps.
    pub(super) fn drive<R>(&self, wakes: &mut Vec<Waker>, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.lock();
        let result = act(&mut core);
        std::mem::swap(wakes, &mut core.wakes);
        drop(core);
        if !wakes.is_empty() {
            wakes.drain(..).for_each(Waker::wake);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // It is whole after each act, so a panic elsewhere does not make it unusable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream of it. Letting go of it resets what has not ended.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u32,
}

impl Handle {
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Core, u32) -> R) -> R {
        self.shared.with(|core| act(core, self.number))
    }

    pub(super) fn reset(&self, code: Code) {
        self.with(|core, number| core.reset(number, code));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.with(|core, number| core.release(number));
    }
}
