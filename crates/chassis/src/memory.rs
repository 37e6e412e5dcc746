//! Which allocator our programs use, and that it gives back what they do not.
//!
//! A program names it in its `main.rs`; a library never does. It is mimalloc, because glibc keeps what a
//! peak has left behind (170 MB of a node proxy whose 10,000 connections had ended; here 31 with all that
//! was done about it), because musl's malloc has one lock for all threads, and because it is one file for
//! a C compiler: jemalloc wants `make`.
//!
//! Without huge pages: with them an idle node proxy has 14 MB of its own, without 3.

use crate::limits::MEMORY_LOOKED_AT;
use std::{hint::black_box, thread};

pub use mimalloc::MiMalloc as Allocator;

/// For `#[global_allocator]`.
pub const ALLOCATOR: Allocator = Allocator;

/// Has free memory given back to the system, as long as the future lives.
///
/// mimalloc does it by itself only where much is allocated, so a process that has become idle would keep
/// what it freed last. It also does it when a thread ends, so now and then one does: 30 µs each time.
pub(crate) async fn give_back() {
    let mut times = tokio::time::interval(MEMORY_LOOKED_AT);
    loop {
        times.tick().await;
        // A thread without memory of its own is none to the allocator. One that cannot be started is
        // not missed.
        let _ended = thread::Builder::new().name("memory".into()).spawn(|| drop(black_box(Box::new(0))));
    }
}
