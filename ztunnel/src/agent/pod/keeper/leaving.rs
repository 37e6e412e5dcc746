//! The time between a pod's leave and the end of its rules: what is open goes on by them.

use tokio::time::{Instant, sleep_until};

use super::Keeper;
use crate::agent::limits::{LET_GO, LET_GO_ALIVE, LET_GO_LOOK};
use crate::agent::steps::Want;
use crate::net::redirect;

impl Keeper {
    /// Waits until what was open has ended, or had its time to.
    pub(in crate::agent::pod) async fn let_end(&self, wanted: &Want) {
        let Some(since) = self.let_go_since else { return };
        // What an earlier agent has left was not held on to, and no proxy knows of it for long.
        let Some(netns) = self.netns() else { return sleep_until(since + LET_GO).await };
        let hurry = matches!(wanted, Want::Out { hurry: true, .. });
        let deadline = since + if hurry { LET_GO } else { LET_GO_ALIVE };
        loop {
            sleep_until(deadline.min(Instant::now() + LET_GO_LOOK)).await;
            let netns = netns.clone();
            // Where it cannot be known, it is as if something were open.
            let carried = self.in_kernel(move || redirect::carried(&netns)).await;
            let open = carried.and_then(|carried| Ok(carried?));
            if matches!(open, Ok(0)) {
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!(pod = %self.name, ?open, "connections of a pod that has left the mesh hang from now on");
                return;
            }
        }
    }
}
