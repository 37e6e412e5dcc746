//! How the two ends of ZDS take turns: the proxy greets, then the agent asks and waits for each answer.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::{io, path::Path, time::Duration};

use super::protocol::{self, MESSAGE_BYTES_MAX, MessageError, Request};
use crate::net::seqpacket::Seqpacket;
use tokio::time::timeout;

/// How long the agent waits for a message to leave or an answer to come: Istio's number. An add is
/// answered once the pod's listeners are open, which is a matter of milliseconds.
pub const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The socket failed.
    #[error("the ZDS socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The other end hung up.
    #[error("the other end of the ZDS socket hung up")]
    Closed,
    /// The other end did not take its turn.
    #[error("the other end of the ZDS socket was silent for {} s", TURN_DEADLINE.as_secs())]
    Silent,
    /// The other end does not keep to the protocol.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The agent's end.
#[derive(Debug)]
pub struct AgentEnd {
    socket: Seqpacket,
}

impl AgentEnd {
    /// Takes a fresh connection and waits for the greeting.
    pub async fn accept(socket: Seqpacket) -> Result<Self, SessionError> {
        let hello = in_time(receive(&socket)).await?;
        protocol::decode_hello(&hello.0, &hello.1)?;
        Ok(Self { socket })
    }

    /// Asks and waits for the answer; the inner `Err` is what the proxy says went wrong.
    ///
    /// After an outer error, or when this is cancelled, it is not known whose turn it is: drop the session.
    pub async fn ask(&mut self, request: &Request<BorrowedFd<'_>>) -> Result<Result<(), String>, SessionError> {
        let (bytes, netns) = protocol::encode_request(request)?;
        in_time(async { Ok(self.socket.send(&bytes, netns).await?) }).await?;
        let ack = in_time(receive(&self.socket)).await?;
        Ok(protocol::decode_ack(&ack.0, &ack.1)?)
    }

    /// Returns when the proxy has hung up, or has said something that nobody asked for. Cancelled,
    /// nothing is lost: wait with it between questions.
    pub async fn ended(&mut self) -> SessionError {
        match receive(&self.socket).await {
            Ok(_) => SessionError::Message(MessageError::NoPayload),
            Err(error) => error,
        }
    }
}

/// The proxy's end.
#[derive(Debug)]
pub struct ProxyEnd {
    socket: Seqpacket,
}

impl ProxyEnd {
    /// Connects to the agent and greets it.
    pub async fn connect(path: &Path) -> Result<Self, SessionError> {
        Self::greet(Seqpacket::connect(path)?).await
    }

    /// Greets over a connection that is there.
    pub async fn greet(socket: Seqpacket) -> Result<Self, SessionError> {
        in_time(async { Ok(socket.send(&protocol::encode_hello(), None).await?) }).await?;
        Ok(Self { socket })
    }

    /// The next request, however long it takes. Cancelled, none is lost.
    pub async fn next(&mut self) -> Result<Request, SessionError> {
        let (bytes, descriptors) = receive(&self.socket).await?;
        Ok(protocol::decode_request(&bytes, descriptors)?)
    }

    /// Answers the request that came last.
    pub async fn answer(&mut self, result: Result<(), &str>) -> Result<(), SessionError> {
        let ack = protocol::encode_ack(result);
        in_time(async { Ok(self.socket.send(&ack, None).await?) }).await
    }
}

async fn receive(socket: &Seqpacket) -> Result<(Vec<u8>, Vec<OwnedFd>), SessionError> {
    let datagram = socket.receive(MESSAGE_BYTES_MAX).await?.ok_or(SessionError::Closed)?;
    Ok((datagram.bytes, datagram.descriptors))
}

async fn in_time<T>(turn: impl Future<Output = Result<T, SessionError>>) -> Result<T, SessionError> {
    timeout(TURN_DEADLINE, turn).await.unwrap_or(Err(SessionError::Silent))
}

#[cfg(test)]
mod tests;
