//! A client and a server that talk to each other, with all that comes in pieces of any size and at
//! any time: what is given is delivered, and no credit is lost.

use super::{super::code::Code, *};
use crate::engine::failure::Broken;
use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;
use std::task::Poll;

/// One direction of a stream, as those who use it know it.
#[derive(Default)]
struct Way {
    given: u64,
    delivered: u64,
    /// Taken, and not said to be delivered.
    taken: usize,
    finished: bool,
    /// The reader has seen the end.
    ended: bool,
}

/// A stream from both sides.
struct Line {
    number: u32,
    /// From the client, and from the server.
    ways: [Way; 2],
    /// Who has let go of it.
    gone: [bool; 2],
    answered: bool,
    accepted: bool,
    /// Somebody has broken it off: bytes may be lost from here on, but not come wrong.
    broken: bool,
}

struct Pair {
    /// The client and the server.
    ends: [End; 2],
    lines: Vec<Line>,
}

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    Ask,
    Accept,
    Refuse,
    Give {
        line: usize,
        side: usize,
        bytes: usize,
    },
    Take {
        line: usize,
        side: usize,
        bytes: usize,
    },
    Finish {
        line: usize,
        side: usize,
    },
    Reset {
        line: usize,
        side: usize,
    },
    Release {
        line: usize,
        side: usize,
    },
    /// So many bytes of what one side says come to the other.
    Move {
        side: usize,
        bytes: usize,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let line = 0_usize..6;
    let side = 0_usize..2;
    let one = prop_oneof![
        2 => Just(Act::Ask),
        3 => Just(Act::Accept),
        1 => Just(Act::Refuse),
        8 => (line.clone(), side.clone(), 1_usize..60_000).prop_map(|(line, side, bytes)| Act::Give { line, side, bytes }),
        8 => (line.clone(), side.clone(), 1_usize..60_000).prop_map(|(line, side, bytes)| Act::Take { line, side, bytes }),
        2 => (line.clone(), side.clone()).prop_map(|(line, side)| Act::Finish { line, side }),
        1 => (line.clone(), side.clone()).prop_map(|(line, side)| Act::Reset { line, side }),
        1 => (line, side.clone()).prop_map(|(line, side)| Act::Release { line, side }),
        12 => (side, 1_usize..100_000).prop_map(|(side, bytes)| Act::Move { side, bytes }),
    ];
    prop::collection::vec(one, 1..120)
}

fn byte(number: u32, side: usize, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ u64::from(number) ^ (side as u64 * 0x55)) as u8
}

impl Pair {
    fn new(grants: [Grant; 2], frames: [usize; 2]) -> Self {
        let end = |role, at: usize| {
            End::new(Config { grant: grants[at], frame_bytes: frames[at], queue_bytes: 20_000, ..config(role) })
        };
        Self { ends: [end(Role::Client, 0), end(Role::Server, 1)], lines: Vec::new() }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Ask => {
                if self.lines.len() < 30 {
                    let number = self.ends[0].core.ask(&head()).expect("a connection that lives");
                    self.lines.push(Line {
                        number,
                        ways: Default::default(),
                        gone: [false; 2],
                        answered: false,
                        accepted: false,
                        broken: false,
                    });
                }
            }
            Act::Accept | Act::Refuse => {
                let refuse = matches!(act, Act::Refuse);
                let core = &mut self.ends[1].core;
                let Some(asked) = core.next_asked() else { return };
                let line = self.lines.iter_mut().find(|line| line.number == asked.stream).expect("a stream of ours");
                let status = if refuse { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
                line.accepted = core.answer(line.number, status, None, refuse).is_ok() && !refuse;
                if !line.accepted {
                    line.broken = true;
                    line.gone[1] = true;
                    core.release(line.number);
                }
            }
            Act::Give { line, side, bytes } => self.give(line, side, bytes),
            Act::Take { line, side, bytes } => self.take(line, side, bytes),
            Act::Finish { line, side } => {
                let Some(line) = live(&mut self.lines, line, side) else { return };
                match self.ends[side].core.finish(line.number) {
                    Ok(()) => line.ways[side].finished = true,
                    Err(broken) => assert!(line.broken, "{} broke by itself: {broken:?}", line.number),
                }
            }
            Act::Reset { line, side } => {
                let Some(line) = live(&mut self.lines, line, side) else { return };
                line.broken = true;
                self.ends[side].core.reset(line.number, Code::CONNECT_ERROR);
            }
            Act::Release { line, side } => {
                let Some(line) = live(&mut self.lines, line, side) else { return };
                let over = line.ways[side].finished && line.ways[1 - side].ended;
                line.broken |= !over;
                line.gone[side] = true;
                self.ends[side].core.release(line.number);
            }
            Act::Move { side, bytes } => {
                let said = self.ends[side].say(bytes);
                self.ends[1 - side].hear(&said);
            }
        }
        self.ends.iter().for_each(|end| end.core.check());
    }

    fn give(&mut self, line: usize, side: usize, bytes: usize) {
        let core = &mut self.ends[side].core;
        let Some(line) = live(&mut self.lines, line, side) else { return };
        let way = &mut line.ways[side];
        match core.poll_room(line.number, waker()) {
            Poll::Ready(Ok(Some(room))) => {
                let bytes = room.min(bytes);
                let piece: Bytes = (0..bytes as u64).map(|at| byte(line.number, side, way.given + at)).collect();
                way.given += bytes as u64;
                core.give(line.number, piece);
            }
            Poll::Ready(Ok(None)) => assert!(way.finished, "{} does not take what it should", line.number),
            Poll::Ready(Err(broken)) => assert!(line.broken, "{} broke by itself: {broken:?}", line.number),
            Poll::Pending => {}
        }
    }

    fn take(&mut self, line: usize, side: usize, bytes: usize) {
        let core = &mut self.ends[side].core;
        let Some(line) = live(&mut self.lines, line, side) else { return };
        if side == 0 && !line.answered {
            match core.poll_answer(line.number, waker()) {
                Poll::Ready(Ok(answer)) => {
                    line.answered = true;
                    assert_eq!(answer.status == StatusCode::OK, line.accepted);
                }
                Poll::Ready(Err(_)) => return assert!(line.broken, "{} broke by itself", line.number),
                Poll::Pending => return,
            }
        }
        let way = &mut line.ways[1 - side];
        match core.poll_take(line.number, waker()) {
            Poll::Ready(Ok(Some(mut piece))) => {
                let back = piece.split_off(bytes.min(piece.len()));
                core.put_back(line.number, back);
                for (at, found) in piece.iter().enumerate() {
                    let expected = byte(line.number, 1 - side, way.delivered + at as u64);
                    assert_eq!(*found, expected, "byte {} of {}", way.delivered, line.number);
                }
                way.delivered += piece.len() as u64;
                way.taken += piece.len();
                // What was taken is delivered a little later.
                let now = way.taken - way.taken / 3;
                way.taken -= now;
                core.delivered(line.number, now);
            }
            Poll::Ready(Ok(None)) => {
                assert!(line.broken || (way.finished && way.delivered == way.given), "{} ended early", line.number);
                way.ended = true;
                core.delivered(line.number, std::mem::take(&mut way.taken));
            }
            Poll::Ready(Err(Broken::Reset(_))) => assert!(line.broken, "{} broke by itself", line.number),
            Poll::Ready(Err(broken)) => panic!("the connection broke: {broken:?}"),
            Poll::Pending => core.delivered(line.number, std::mem::take(&mut way.taken)),
        }
    }

    /// Goes on until nothing moves any more, with everybody reading, writing their end, and accepting.
    fn settle(&mut self) {
        // An answer that is seen is no byte, and the end of a stream neither.
        let mut quiet = 0;
        for _ in 0..5000 {
            let mut moved = false;
            self.act(&Act::Accept);
            for side in [0, 1] {
                let said = self.ends[side].say(usize::MAX);
                moved |= !said.is_empty();
                self.ends[1 - side].hear(&said);
            }
            for line in 0..self.lines.len() {
                for side in [0, 1] {
                    let before = self.lines[line].ways[1 - side].delivered;
                    self.act(&Act::Finish { line, side });
                    self.act(&Act::Take { line, side, bytes: usize::MAX });
                    moved |= before != self.lines[line].ways[1 - side].delivered;
                }
            }
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet > 5 && !self.ends[1].core.is_asked() {
                return self.let_go_of_what_broke();
            }
        }
        panic!("it never comes to rest");
    }

    fn let_go_of_what_broke(&mut self) {
        for line in 0..self.lines.len() {
            for side in [0, 1] {
                if self.lines[line].broken {
                    self.act(&Act::Release { line, side });
                }
            }
        }
        for side in [0, 1, 0, 1] {
            self.act(&Act::Move { side, bytes: usize::MAX });
        }
    }

    fn check_all_arrived(&self) {
        for line in &self.lines {
            if line.broken {
                continue;
            }
            for way in &line.ways {
                assert_eq!(way.delivered, way.given, "bytes of {}", line.number);
                assert!(way.ended, "the end of {}", line.number);
            }
        }
        let [client, server] = self.ends.each_ref().map(|end| &end.core);
        assert!(client.lost().is_none() && server.lost().is_none());
        // Nothing is on the way, so what one may send is what the other lets it.
        assert_eq!(client.send_window, server.recv_window);
        assert_eq!(server.send_window, client.recv_window);
        assert_eq!((client.held, client.turns.promised, client.active), (0, 0, 0));
        assert_eq!((server.held, server.turns.promised, server.active), (0, 0, 0));
    }
}

/// A line that this side may use.
fn live(lines: &mut [Line], which: usize, side: usize) -> Option<&mut Line> {
    let count = lines.len();
    // The last few, so that streams meet.
    let line = lines.get_mut(if which < count { which } else { which % count.max(1) })?;
    let usable = !line.gone[side] && (side == 0 || line.accepted);
    usable.then_some(line)
}

fn grants() -> impl Strategy<Value = [Grant; 2]> {
    let one = (1_u32..200_000, 65_535_u32..300_000).prop_map(|(stream, connection)| Grant { connection, stream });
    [one.clone(), one]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_given_arrives(script in acts(), grants in grants(), frames in [16_384_usize..100_000, 16_384_usize..100_000]) {
        let mut pair = Pair::new(grants, frames);
        for act in &script {
            pair.act(act);
        }
        pair.settle();
        pair.check_all_arrived();
    }
}

#[test]
fn stalled_readers_narrow_the_windows_and_lose_nothing() {
    let mut pair = Pair::new([Grant { connection: 16 << 20, stream: 4 << 20 }; 2], [1 << 20; 2]);
    for _ in 0..8 {
        pair.act(&Act::Ask);
    }
    for _ in 0..20 {
        for side in [0, 1] {
            pair.act(&Act::Move { side, bytes: usize::MAX });
        }
        pair.act(&Act::Accept);
    }
    for _ in 0..4000 {
        for line in 0..8 {
            pair.act(&Act::Give { line, side: 0, bytes: 20_000 });
        }
        for side in [0, 1] {
            pair.act(&Act::Move { side, bytes: usize::MAX });
        }
    }
    let server = &pair.ends[1].core;
    assert!(server.held > 16 << 20 && server.held < 32 << 20, "{} bytes are held", server.held);
    assert_eq!(server.grant.stream, 1 << 20);
    pair.settle();
    pair.check_all_arrived();
    assert_eq!(pair.ends[1].core.grant.stream, 4 << 20, "and they are wide again");
}

/// Two streams that were agreed to, and room for megabytes of each.
fn two_with_much_room() -> Pair {
    let mut pair = Pair::new([Grant { connection: 16 << 20, stream: 4 << 20 }; 2], [1 << 20; 2]);
    pair.ends[0].core.config.queue_bytes = 4 << 20;
    (0..2).for_each(|_| pair.act(&Act::Ask));
    for _ in 0..3 {
        for side in [0, 1] {
            pair.act(&Act::Move { side, bytes: usize::MAX });
        }
        pair.act(&Act::Accept);
    }
    pair
}

#[test]
fn a_small_stream_does_not_wait_for_a_large_one() {
    let mut pair = two_with_much_room();
    pair.act(&Act::Give { line: 0, side: 0, bytes: 3 << 20 });
    pair.act(&Act::Move { side: 0, bytes: 100_000 });
    pair.act(&Act::Give { line: 1, side: 0, bytes: 10 });
    // What of the batch that was begun is left, and one frame.
    pair.act(&Act::Move { side: 0, bytes: 3 * 65_536 - 100_000 });
    assert_eq!(pair.ends[1].core.streams[&3].held, 10);
}

#[test]
fn large_streams_take_turns_of_a_batch_each() {
    let mut pair = two_with_much_room();
    (0..2).for_each(|line| pair.act(&Act::Give { line, side: 0, bytes: 1 << 20 }));
    pair.act(&Act::Move { side: 0, bytes: 4 * 65_536 });
    let held = [1, 3].map(|number| pair.ends[1].core.streams[&number].held);
    assert_eq!(held, [2 * (65_536 - 9); 2]);
}

#[test]
fn a_farewell_lets_all_that_was_asked_before_it_be_served() {
    let mut pair = Pair::new([Grant { connection: 1 << 20, stream: 1 << 18 }; 2], [1 << 14; 2]);
    pair.act(&Act::Move { side: 1, bytes: usize::MAX });
    pair.ends[1].core.say_farewell();
    pair.act(&Act::Ask);
    for side in [0, 1, 0] {
        pair.act(&Act::Move { side, bytes: usize::MAX });
    }
    assert!(!pair.ends[0].core.usable());
    assert!(pair.ends[0].core.ask(&head()).is_err(), "the client knows");
    pair.act(&Act::Accept);
    pair.act(&Act::Give { line: 0, side: 0, bytes: 1000 });
    for side in [0, 1] {
        pair.act(&Act::Move { side, bytes: usize::MAX });
    }
    assert!(pair.ends[1].core.lost().is_none(), "one is open");
    for _ in 0..3 {
        for side in [0, 1] {
            pair.act(&Act::Take { line: 0, side, bytes: usize::MAX });
            pair.act(&Act::Finish { line: 0, side });
            pair.act(&Act::Move { side, bytes: usize::MAX });
        }
    }
    assert!(pair.lines[0].ways.iter().all(|way| way.delivered == way.given));
    assert!(pair.ends[1].core.lost().is_some(), "and now none is");
}

#[test]
fn requests_beyond_the_peers_limit_wait_for_a_place() {
    let mut pair = Pair::new([Grant { connection: 1 << 20, stream: 1 << 18 }; 2], [1 << 14; 2]);
    pair.act(&Act::Move { side: 1, bytes: usize::MAX });
    (0..20).for_each(|_| pair.act(&Act::Ask));
    assert_eq!((pair.ends[0].core.active, pair.ends[0].core.waiting.len()), (8, 12));
    // One that gives up meanwhile is never heard of.
    pair.act(&Act::Release { line: 10, side: 0 });
    pair.settle();
    pair.check_all_arrived();
    assert_eq!(pair.lines.iter().filter(|line| line.accepted).count(), 19);
}

#[test]
fn what_comes_after_the_farewell_is_ignored() {
    let mut pair = Pair::new([Grant { connection: 1 << 20, stream: 1 << 18 }; 2], [1 << 14; 2]);
    pair.act(&Act::Move { side: 1, bytes: usize::MAX });
    pair.act(&Act::Ask);
    pair.act(&Act::Move { side: 0, bytes: usize::MAX });
    pair.ends[1].core.say_farewell();
    let farewell = pair.ends[1].say(usize::MAX);
    pair.ends[0].hear(&farewell);
    // Its last word is on its way, and somebody who has not heard it opens a stream and sends on it.
    pair.act(&Act::Move { side: 0, bytes: usize::MAX });
    let last = pair.ends[1].say(usize::MAX);
    let mut late = Vec::new();
    let mut block = Vec::new();
    crate::engine::message::put_request(&head(), &mut block);
    crate::engine::frame::put_headers(3, false, &block, 1 << 14, &mut late);
    crate::engine::frame::Head::new(0, 0, 3, 5).write(&mut late);
    late.extend(b"hello");
    pair.ends[1].hear(&late);
    assert!(pair.ends[1].core.lost().is_none(), "{:?}", pair.ends[1].core.lost());
    pair.ends[0].hear(&last);
    pair.settle();
    let line = &pair.lines[0];
    assert!(!line.broken && line.ways.iter().all(|way| way.ended), "the one before it is served");
}
