//! WebSocket and CONNECT: after both sides have agreed, bytes.

use std::io;

use chassis::task;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::answer::Teller;
use crate::context::Core;
use crate::report::Flag;
use crate::serve;
use crate::serve::rewound::Rewound;

/// Moves bytes once the caller has been told of the agreement. The request is told when they ended.
pub fn relay(caller: OnUpgrade, endpoint: OnUpgrade, mut teller: Box<Teller>, core: &Core) {
    let mut signal = core.waypoint.signal.clone();
    let guard = signal.guard();
    task::spawn("upgraded", async move {
        // The end of the drain drops both connections.
        let moved = tokio::select! {
            moved = both(caller, endpoint) => moved,
            () = signal.over() => Err(io::ErrorKind::TimedOut.into()),
        };
        let outcome = teller.outcome();
        match moved {
            Ok((_, received)) => outcome.sent_bytes = received,
            Err(error) => {
                outcome.flags.add(Flag::UpstreamConnectionTermination);
                outcome.termination = Some(error.to_string().into());
            }
        }
        teller.tell();
        drop(guard);
    })
    .detach();
}

/// Ends a connection in order that was asked for and is not given away: after an answer that says `close` whoever
/// served it leaves it to whoever was promised it.
pub fn decline(caller: OnUpgrade) {
    task::spawn("upgrade declined", async move {
        let Ok(left) = caller.await else { return };
        if let Ok(parts) = left.downcast::<TokioIo<Rewound>>() {
            serve::close(parts.io.into_inner()).await;
        }
    })
    .detach();
}

async fn both(caller: OnUpgrade, endpoint: OnUpgrade) -> io::Result<(u64, u64)> {
    let (caller, endpoint) = tokio::try_join!(begun(caller), begun(endpoint))?;
    copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(endpoint)).await
}

async fn begun(upgrade: OnUpgrade) -> io::Result<Upgraded> {
    upgrade.await.map_err(io::Error::other)
}
