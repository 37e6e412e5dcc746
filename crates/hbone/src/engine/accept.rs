//! The receiving end of a connection.

use super::{
    code::Code,
    config::{Config, Role},
    core::{Asked, Core},
    driver::{Driver, Turn},
    failure::{Fatal, Lost},
    shared::Handle,
    tunnel::Tunnel,
};
use crate::{
    accept::{ConnectionEnd, Drain, Gone},
    drain::{Draining, Step},
    flood::{Flood, Unanswered, Verdict},
    head::{BadConnect, BaggageText, ConnectHead},
    keep::Keep,
    limits::Limits,
};
use http::StatusCode;
use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// A peer's connection.
pub(crate) struct Connection<IO> {
    driver: Driver<IO>,
    flood: Flood,
    draining: Draining,
    end: Option<ConnectionEnd>,
}

pub(crate) async fn serve<IO>(io: IO, limits: &Limits, drain: Drain) -> io::Result<Connection<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(io, Config::new(Role::Server, limits), Keep::new(limits));
    poll_fn(|cx| driver.poll_begun(cx)).await?;
    let flood = Flood::new(limits.server_streams, Instant::now());
    Ok(Connection { driver, flood, draining: Draining::new(drain), end: None })
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(crate) fn end(&self) -> Option<&ConnectionEnd> {
        self.end.as_ref()
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        while self.end.is_none() {
            while let Some(asked) = self.driver.shared().with(Core::next_asked) {
                if let Some(request) = self.judge(asked) {
                    return Poll::Ready(Some(request));
                }
            }
            match self.driver.poll(cx) {
                Poll::Ready(Turn::Asked) => {}
                Poll::Ready(Turn::Over) => self.end = Some(self.why()),
                Poll::Pending => match self.draining.poll(cx) {
                    Poll::Ready(Step::Begin) => self.driver.shared().with(Core::say_farewell),
                    Poll::Ready(Step::Deadline) => {
                        self.end_with(Code::NO_ERROR, Lost::GivenUp(Code::NO_ERROR), ConnectionEnd::DrainDeadline);
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
        Poll::Ready(None)
    }

    fn judge(&mut self, asked: Asked) -> Option<Request> {
        let handle = Handle { shared: self.driver.shared().clone(), number: asked.stream };
        match self.flood.judge(Instant::now()) {
            Verdict::Take => return Some(Request { head: asked.into_head(), handle, unanswered: self.flood.take() }),
            Verdict::Refuse => handle.reset(Code::REFUSED_STREAM),
            Verdict::End => {
                let fatal = Fatal::new(Code::ENHANCE_YOUR_CALM, "streams that are opened to be reset");
                self.end_with(fatal.code, Lost::Ours(fatal), ConnectionEnd::Flood);
            }
        }
        None
    }

    /// Says why in a GOAWAY, as far as the socket takes it at once.
    fn end_with(&mut self, code: Code, lost: Lost, end: ConnectionEnd) {
        self.driver.shared().with(|core| core.give_up(code, lost));
        let _ = self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.end = Some(end);
    }

    fn why(&self) -> ConnectionEnd {
        let lost = self.driver.shared().with(|core| core.lost().cloned());
        match lost.as_deref() {
            None | Some(Lost::Closed | Lost::Vanished) => ConnectionEnd::Closed,
            Some(Lost::Silent) => ConnectionEnd::Silent,
            Some(Lost::Ours(fatal)) if fatal.code == Code::ENHANCE_YOUR_CALM => ConnectionEnd::Flood,
            Some(lost) => ConnectionEnd::Broken(lost.error()),
        }
    }
}

/// Somebody asks for a tunnel.
pub(crate) struct Request {
    head: Result<ConnectHead, BadConnect>,
    handle: Handle,
    unanswered: Unanswered,
}

impl Request {
    pub(crate) fn head(&self) -> Result<&ConnectHead, &BadConnect> {
        self.head.as_ref()
    }

    pub(crate) async fn cancelled(&mut self) -> Gone {
        // Reset or lost connection: either way nobody waits for the answer.
        let _ = poll_fn(|cx| self.handle.with(|core, number| core.poll_broken(number, cx.waker()))).await;
        self.unanswered.wasted();
        Gone
    }

    pub(crate) fn accept(self, baggage: Option<&BaggageText>) -> Result<Tunnel, Gone> {
        match self.handle.with(|core, number| core.answer(number, StatusCode::OK, baggage, false)) {
            Ok(()) => Ok(Tunnel::new(self.handle, Box::new(()))),
            Err(_) => {
                self.unanswered.wasted();
                Err(Gone)
            }
        }
    }

    pub(crate) fn refuse(self, status: StatusCode) {
        if self.handle.with(|core, number| core.answer(number, status, None, true)).is_err() {
            self.unanswered.wasted();
        }
    }
}
