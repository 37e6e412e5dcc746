//! Whole connections, without a socket: two ends that talk to each other, and one that is lied to.

mod hostile;
mod pair;

use super::{
    batch::{Batch, PARTS},
    config::{Config, Role},
    core::Core,
};
use crate::{
    credit::Grant,
    head::{Authority, ConnectHead},
};
use bytes::BytesMut;
use std::{io::IoSlice, task::Waker, time::Instant};

fn config(role: Role) -> Config {
    Config {
        role,
        grant: Grant { connection: 16 << 20, stream: 4 << 20 },
        frame_bytes: 1 << 20,
        streams: 8,
        header_bytes: 16 << 10,
        queue_bytes: 400 << 10,
    }
}

/// One end, and what has come to it.
struct End {
    core: Core,
    unread: BytesMut,
    batch: Batch,
    now: Instant,
}

impl End {
    fn new(config: Config) -> Self {
        Self { core: Core::new(config), unread: BytesMut::new(), batch: Batch::default(), now: Instant::now() }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.core.receive(&mut self.unread, self.now);
        self.core.check();
    }

    /// So many bytes of what it says.
    fn say(&mut self, most: usize) -> Vec<u8> {
        let mut said = Vec::new();
        while said.len() < most {
            if self.batch.is_empty() {
                self.core.transmit(&mut self.batch);
                self.core.check();
            }
            if self.batch.is_empty() {
                break;
            }
            let before = said.len();
            let mut slices = [IoSlice::new(&[]); PARTS];
            let parts = self.batch.slices(&mut slices);
            for slice in &slices[..parts] {
                said.extend(&slice[..slice.len().min(most - said.len())]);
            }
            self.batch.advance(said.len() - before);
        }
        said
    }
}

fn head() -> ConnectHead {
    ConnectHead::to(Authority::parse("10.0.0.1:80").expect("an authority"))
}

fn waker() -> &'static Waker {
    Waker::noop()
}
