//! The lab's end of the control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chassis::task;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::fds;
use super::protocol::{Reply, Request};
use crate::lab::container::{self, spawn};
use crate::lab::manifest::{Key, TEXT_BYTES_MAX};
use crate::lab::pod::{self, container::log_file, log};
use crate::lab::site::Site;
use crate::lab::supervisor::{Found, Order};

/// Longest request: a whole text of manifests, quoted.
const REQUEST_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;
/// A caller that has connected says at once what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Takes orders until the task is dropped.
pub(crate) async fn serve(site: Arc<Site>, orders: mpsc::Sender<Order>) -> io::Result<()> {
    let path = site.run_dir.control_socket();
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let ours = nix::unistd::geteuid().as_raw();
        if stream.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
            let answer = answer(site.clone(), orders.clone(), stream);
            task::spawn("control connection", answer).detach();
        }
    }
}

async fn answer(site: Arc<Site>, orders: mpsc::Sender<Order>, mut stream: UnixStream) {
    let asked = tokio::time::timeout(REQUEST_DEADLINE, read_request(&stream)).await;
    let reply = match asked {
        Ok(Ok((Request::Exec { pod, container, argv, tty }, files))) => {
            exec(&site, &orders, &mut stream, Wanted { pod, container, argv, tty, files }).await
        }
        Ok(Ok((request, _))) => simple(&site, &orders, request).await,
        Ok(Err(error)) => Reply::Refused { reason: format!("the request cannot be read: {error}") },
        Err(_) => Reply::Refused { reason: "no request came".to_owned() },
    };
    let _ = say(&mut stream, &reply).await;
}

async fn say(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Reads one line, and the files that came with its first bytes.
async fn read_request(stream: &UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    let (mut text, mut files) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    while text.last() != Some(&b'\n') {
        let (length, more) = stream.async_io(Interest::READABLE, || fds::receive(stream, &mut buffer)).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(&buffer[..length]);
        files.extend(more);
        if text.len() > REQUEST_BYTES_MAX || files.len() > fds::FDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
    }
    Ok((serde_json::from_slice(&text)?, files))
}

/// Gives an order and waits for its answer.
async fn ask<T>(orders: &mpsc::Sender<Order>, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Reply> {
    let (answer, answered) = oneshot::channel();
    let ending = || Reply::Refused { reason: "the lab is ending".to_owned() };
    orders.send(order(answer)).await.map_err(|_| ending())?;
    answered.await.map_err(|_| ending())
}

async fn simple(site: &Site, orders: &mpsc::Sender<Order>, request: Request) -> Reply {
    let result = match request {
        Request::Apply { file, yaml } => {
            ask(orders, |answer| Order::Change { file, yaml, remove: false, answer }).await
        }
        Request::Delete { file, yaml } => {
            ask(orders, |answer| Order::Change { file, yaml, remove: true, answer }).await
        }
        Request::Status => ask(orders, Order::Status).await.map(|status| Reply::Status(Box::new(status))),
        Request::Logs { pod, container } => {
            let found = ask(orders, |answer| Order::Find { pod, container, answer }).await;
            found.map(|found| found.map_or_else(refused, |found| log_files(site, &found)))
        }
        Request::Kill { component, node, signal } => {
            let found = ask(orders, |answer| Order::Component { component, node, answer }).await;
            found.map(|found| {
                found.and_then(|found| kill_program(&found, signal)).map_or_else(refused, |()| Reply::Done)
            })
        }
        Request::Replace { node } => {
            let done = ask(orders, |answer| Order::Replace { node, answer }).await;
            done.map(|done| done.map_or_else(refused, |pod| Reply::Replacing { pod }))
        }
        Request::Scale { namespace, name, replicas } => {
            let key = Key::new("Gateway", &namespace, &name);
            let done = ask(orders, |answer| Order::Scale { key, replicas, answer }).await;
            done.map(|done| done.map_or_else(refused, |()| Reply::Done))
        }
        Request::Keep => {
            site.kept.store(true, Ordering::Relaxed);
            Ok(Reply::Done)
        }
        Request::Down => orders.send(Order::Down).await.map(|()| Reply::Done).map_err(|_| Reply::Done),
        Request::Exec { .. } | Request::Signal { .. } => {
            Ok(Reply::Refused { reason: "not a request of its own".to_owned() })
        }
    };
    result.unwrap_or_else(|reply| reply)
}

fn refused(reason: String) -> Reply {
    Reply::Refused { reason }
}

fn log_files(site: &Site, found: &Found) -> Reply {
    let path = log_file(site, &found.pod, &found.container);
    let paths = [log::earlier(&path), path].into_iter().filter(|path| path.exists());
    Reply::LogFiles { paths: paths.map(|path| path.display().to_string()).collect() }
}

/// Sends a signal to the program itself, which is the child of the
/// container's process 1.
fn kill_program(found: &Found, signal: i32) -> Result<(), String> {
    let process = found.process.ok_or("it does not run")?;
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let program = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    let pid = program.or_else(|| i32::try_from(process).ok()).ok_or("it does not run")?;
    let signal = Signal::try_from(signal).map_err(|_| format!("{signal} is not a signal"))?;
    kill(Pid::from_raw(pid), signal).map_err(|errno| format!("cannot send {signal}: {errno}"))
}

struct Wanted {
    pod: String,
    container: Option<String>,
    argv: Vec<String>,
    tty: bool,
    files: Vec<OwnedFd>,
}

/// Runs a command in a container, on the caller's own standard streams.
async fn exec(site: &Site, orders: &mpsc::Sender<Order>, stream: &mut UnixStream, wanted: Wanted) -> Reply {
    let Wanted { pod: name, container, argv, tty, files } = wanted;
    let found = match ask(orders, |answer| Order::Find { pod: name, container, answer }).await {
        Ok(Ok(found)) => found,
        Ok(Err(reason)) => return Reply::Refused { reason },
        Err(reply) => return reply,
    };
    let Some(process) = found.process else {
        return Reply::Refused { reason: format!("pod {} is not running", found.pod.key.name) };
    };
    let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(files) else {
        return Reply::Refused { reason: "three standard streams must come with the request".to_owned() };
    };
    let mut command = container::join_command(&site.run_dir, &argv, tty);
    command.env_clear().envs(pod::environment(site, &found.pod, &found.container));
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    if !tty {
        command.process_group(0);
    }
    let mut child = match spawn::spawn(command, spawn::Birthplace::Of(process)).await {
        Ok(child) => child,
        Err(error) => return Reply::Refused { reason: format!("cannot start a process: {error}") },
    };
    if say(stream, &Reply::Started).await.is_err() {
        return Reply::Done;
    }
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut lines = BufReader::new(stream).lines();
    loop {
        tokio::select! {
            ended = child.wait() => {
                let code = ended.map_or(255, crate::lab::enter::shell_code);
                return Reply::Exited { code };
            }
            line = lines.next_line() => match line.ok().flatten() {
                Some(line) => {
                    let request = serde_json::from_str(&line);
                    if let (Ok(Request::Signal { number }), Some(group)) = (request, group)
                        && let Ok(signal) = Signal::try_from(number)
                    {
                        let _ = killpg(group, signal);
                    }
                }
                None => {
                    // The caller is gone: so is what it asked for.
                    if let Some(group) = group {
                        let _ = killpg(group, Signal::SIGKILL);
                    }
                    let _ = child.kill().await;
                    return Reply::Done;
                }
            },
        }
    }
}
