//! Which half of a connection wants its turn: the calls, or the HTTP/2 below them.
//!
//! They wake each other all the time, for what is heard is for a call, and what a call says is for the connection. As
//! wake-ups of the task that is both, each would be another turn of everything. They are notes, read in the same turn; the
//! task is woken only by what comes from elsewhere.

use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

/// The notes of one connection.
pub(super) struct Halves {
    shared: Arc<Shared>,
    calls: Waker,
    http: Waker,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Calls,
    Http,
}

#[derive(Default)]
struct Shared {
    task: AtomicWaker,
    /// The task has its turn, and will look at the notes before it rests.
    busy: AtomicBool,
    calls: AtomicBool,
    http: AtomicBool,
}

struct Note {
    shared: Arc<Shared>,
    half: Half,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.of(self.half).store(true, SeqCst);
        // The other order than in `rest`: one of the two sees the other.
        if !self.shared.busy.load(SeqCst) {
            self.shared.task.wake();
        }
    }
}

impl Shared {
    fn of(&self, half: Half) -> &AtomicBool {
        match half {
            Half::Calls => &self.calls,
            Half::Http => &self.http,
        }
    }
}

impl Halves {
    /// Both want their first turn.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let waker = |half| Waker::from(Arc::new(Note { shared: shared.clone(), half }));
        let halves = Self { calls: waker(Half::Calls), http: waker(Half::Http), shared };
        halves.want(Half::Calls);
        halves.want(Half::Http);
        halves
    }

    /// The task has its turn.
    pub(super) fn begin(&self, task: &Waker) {
        self.shared.task.register(task);
        self.shared.busy.store(true, SeqCst);
    }

    /// Whether a half wants its turn, which it has now.
    pub(super) fn take(&self, half: Half) -> bool {
        self.shared.of(half).swap(false, SeqCst)
    }

    /// A half wants its turn.
    pub(super) fn want(&self, half: Half) {
        self.shared.of(half).store(true, SeqCst);
    }

    /// With what a half is polled.
    pub(super) fn context(&self, half: Half) -> Context<'_> {
        Context::from_waker(match half {
            Half::Calls => &self.calls,
            Half::Http => &self.http,
        })
    }

    /// The task's turn is over, and it will be woken for another. False where a half wants one still.
    #[must_use]
    pub(super) fn rest(&self) -> bool {
        self.shared.busy.store(false, SeqCst);
        !self.shared.calls.load(SeqCst) && !self.shared.http.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_only_from_elsewhere() {
        let (halves, woken) = (Halves::new(), Arc::new(Woken::default()));
        let task = Waker::from(woken.clone());
        halves.begin(&task);
        assert!(halves.take(Half::Calls) && halves.take(Half::Http) && !halves.take(Half::Http));
        halves.context(Half::Http).waker().wake_by_ref();
        assert!(!halves.rest(), "somebody wants something");
        assert_eq!(woken.0.load(SeqCst), 0, "it was not woken from within its turn");

        halves.begin(&task);
        assert!(halves.take(Half::Http) && !halves.take(Half::Calls));
        assert!(halves.rest());
        halves.context(Half::Calls).waker().wake_by_ref();
        assert_eq!(woken.0.load(SeqCst), 1);
        halves.begin(&task);
        assert!(!halves.take(Half::Http) && halves.take(Half::Calls));
    }

    /// Whatever the order in which a note is written and the task goes to rest, it is seen.
    #[test]
    fn no_note_is_lost_between_two_threads() {
        let (halves, woken) = (Halves::new(), Arc::new(Woken::default()));
        let task = Waker::from(woken.clone());
        let note = halves.context(Half::Calls).waker().clone();
        for _ in 0..20_000 {
            halves.begin(&task);
            let _all = (halves.take(Half::Calls), halves.take(Half::Http));
            let before = woken.0.load(SeqCst);
            let rests = std::thread::scope(|scope| {
                scope.spawn(|| note.wake_by_ref());
                halves.rest()
            });
            assert!(!rests || woken.0.load(SeqCst) > before, "it rests, and nobody woke it");
        }
    }
}
