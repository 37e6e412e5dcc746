//! Asks the agent, within a deadline. An agent that is being exchanged is waited for; one that says
//! no is believed at once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use super::call::CniError;

/// How long an agent is waited for that is not there: its exchange takes a few seconds, and the
/// kubelet, told no, waits longer than that before it tries again. It gives up after two minutes.
const PRESENCE_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks whether it is there.
const PRESENCE_INTERVAL: Duration = Duration::from_millis(100);
/// How long it has to answer: its own deadline is 4.5 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer: a status and one sentence.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug)]
enum Silence {
    /// Nobody listens, or it went away before it answered: another one will come.
    Absent(io::Error),
    /// It is there and says nothing that can be used.
    Mute(io::Error),
}

/// Asks the agent at a socket whether a pod may start.
pub fn ask(socket: &Path, request: &str) -> Result<(), CniError> {
    ask_within(PRESENCE_DEADLINE, socket, request)
}

fn ask_within(presence: Duration, socket: &Path, request: &str) -> Result<(), CniError> {
    let deadline = Instant::now() + presence;
    loop {
        match exchange(socket, request) {
            Ok(answer) => return judge(&answer),
            Err(Silence::Mute(error)) => {
                return Err(CniError::later(
                    "istio-cni: the node agent does not answer, the pod may not start yet: look at the log of the pod istio-cni-node of this node",
                    format!("{}: {error}", socket.display()),
                ));
            }
            Err(Silence::Absent(error)) if Instant::now() >= deadline => {
                return Err(CniError::later(
                    "istio-cni: there is no node agent, and without it no pod may start: look at the pod istio-cni-node of this node, or take istio-cni out of the node's CNI configuration if the mesh is gone",
                    format!("{}: {error}", socket.display()),
                ));
            }
            Err(Silence::Absent(_)) => pause(),
        }
    }
}

/// Waits without a runtime; a signal may end it early, which does no harm.
fn pause() {
    let timeout = PollTimeout::try_from(PRESENCE_INTERVAL).unwrap_or(PollTimeout::ZERO);
    let _interrupted = poll(&mut [], timeout);
}

fn exchange(socket: &Path, request: &str) -> Result<Vec<u8>, Silence> {
    let mut stream = connect(socket).map_err(Silence::Absent)?;
    let timeouts = [stream.set_write_timeout(Some(ANSWER_DEADLINE)), stream.set_read_timeout(Some(ANSWER_DEADLINE))];
    timeouts.into_iter().collect::<io::Result<()>>().map_err(Silence::Mute)?;
    // In one write: who answers before it has read all, and leaves, is heard all the same.
    let whole = format!(
        "POST /cmdadd HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{request}",
        request.len()
    );
    let mut answer = Vec::new();
    let heard =
        stream.write_all(whole.as_bytes()).and_then(|()| (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
    match heard {
        Ok(_) if answer.is_empty() => Err(Silence::Absent(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(answer),
        // Only what it said before a whole answer is nothing.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Silence::Mute(error))
        }
        Err(error) => Err(Silence::Absent(error)),
    }
}

/// Connects at once or not at all: an agent that does not accept must not hold us for ever.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// What an answer says: status 200 is yes.
fn judge(answer: &[u8]) -> Result<(), CniError> {
    let answer = String::from_utf8_lossy(answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split([' ', '\r']).next());
    let reason = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    match status {
        Some("200") => Ok(()),
        Some(status) => {
            Err(CniError::later(format!("istio-cni: the pod may not start yet: {reason}"), format!("status {status}")))
        }
        None => Err(CniError::later(
            "istio-cni: the node agent does not speak HTTP: who else listens at its socket?",
            answer.chars().take(200).collect::<String>(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_plain_yes_is_yes() {
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(()));
        for (answer, part) in [
            (
                &b"HTTP/1.1 500 Internal Server Error\r\n\r\npod shop/web: no ztunnel connection\n"[..],
                "no ztunnel connection",
            ),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "status 2000"),
            (b"200", "does not speak HTTP"),
            (b"\xff\xfe", "does not speak HTTP"),
        ] {
            let text = judge(answer).unwrap_err().text(None);
            assert!(text.contains(part) && text.contains("\"code\":11"), "{text}");
        }
    }

    #[test]
    fn without_an_agent_the_answer_is_no_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        // A socket that nobody listens at any more is as good as none.
        for left_behind in [false, true] {
            if left_behind {
                drop(UnixListener::bind(&path).unwrap());
            }
            let text = ask_within(Duration::from_millis(1), &path, "{}").unwrap_err().text(Some("0.3.1"));
            assert!(text.contains("there is no node agent") && text.contains("\"code\":11"), "{text}");
        }
    }

    #[test]
    fn an_agent_that_goes_away_is_waited_for_and_the_next_one_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let server = std::thread::spawn({
            let path = path.clone();
            move || {
                // One that hangs up, then one that answers.
                let first = UnixListener::bind(&path).unwrap();
                drop(first.accept().unwrap());
                drop(first);
                std::fs::remove_file(&path).unwrap();
                let second = UnixListener::bind(&path).unwrap();
                let (mut stream, _) = second.accept().unwrap();
                let mut heard = [0; 1024];
                let count = stream.read(&mut heard).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                String::from_utf8_lossy(&heard[..count]).into_owned()
            }
        });
        assert_eq!(ask(&path, "{}"), Ok(()));
        assert!(server.join().unwrap().starts_with("POST /cmdadd HTTP/1.1\r\n"));
    }
}
