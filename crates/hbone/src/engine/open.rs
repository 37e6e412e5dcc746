//! The sending end of a connection.

use super::{
    code::Code,
    config::{Config, Role},
    core::Core,
    driver::{Driver, Turn},
    failure::{Broken, Lost},
    shared::{Handle, Shared},
    tunnel::Tunnel,
};
use crate::{
    head::{BaggageText, ConnectHead},
    keep::Keep,
    limits::Limits,
    open::TunnelError,
};
use http::StatusCode;
use std::{
    any::Any,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks for tunnels on one connection.
#[derive(Clone)]
pub(crate) struct Link {
    life: Arc<Life>,
    streams: usize,
    answer_deadline: Duration,
}

/// Ends with the last who may ask.
struct Life(Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.with(Core::abandon);
    }
}

/// Moves one connection.
pub(crate) struct Drive<IO> {
    driver: Driver<IO>,
}

pub(crate) async fn begin<IO>(io: IO, limits: &Limits) -> io::Result<(Link, Drive<IO>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(io, Config::new(Role::Client, limits), Keep::new(limits));
    poll_fn(|cx| driver.poll_begun(cx)).await?;
    if let Some(lost) = driver.shared().with(|core| core.lost().cloned()) {
        return Err(lost.error());
    }
    let life = Arc::new(Life(driver.shared().clone()));
    Ok((Link { life, streams: limits.pool_streams, answer_deadline: limits.answer_deadline }, Drive { driver }))
}

impl Link {
    pub(crate) fn streams(&self) -> usize {
        let taken = self.life.0.with(|core| core.streams_taken());
        // A peer that says 0 takes none now; one may wait in the connection for its change of mind.
        self.streams.min(usize::try_from(taken).unwrap_or(usize::MAX)).max(1)
    }

    pub(crate) fn usable(&self) -> bool {
        self.life.0.with(|core| core.usable())
    }

    pub(crate) async fn tunnel(
        &self,
        head: &ConnectHead,
        lease: Box<dyn Any + Send + Sync>,
    ) -> Result<(Tunnel, BaggageText), TunnelError> {
        let shared = &self.life.0;
        let number = shared.with(|core| core.ask(head)).map_err(|broken| TunnelError::Stale(broken.error()))?;
        let handle = Handle { shared: shared.clone(), number };
        let answer = poll_fn(|cx| handle.with(|core, number| core.poll_answer(number, cx.waker())));
        let answer = tokio::time::timeout(self.answer_deadline, answer)
            .await
            .map_err(|_| TunnelError::Deadline(self.answer_deadline))?
            .map_err(|broken| match broken {
                Broken::Reset(code) if code != Code::REFUSED_STREAM => TunnelError::Reset(broken.error()),
                _ => TunnelError::Stale(broken.error()),
            })?;
        match answer.status {
            StatusCode::OK => Ok((Tunnel::new(handle, lease), answer.baggage)),
            status => Err(TunnelError::Refused(status)),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Drive<IO> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody asks a client.
        while std::task::ready!(self.driver.poll(cx)) == Turn::Asked {}
        let lost = self.driver.shared().with(|core| core.lost().cloned());
        Poll::Ready(match lost.as_deref() {
            None | Some(Lost::Closed | Lost::Vanished) => Ok(()),
            Some(lost) => Err(lost.error()),
        })
    }
}
