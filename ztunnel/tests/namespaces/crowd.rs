//! Pods join the mesh and leave it while programs in them connect all the time, through a small proxy that does with
//! connections what the real one does: takes them, makes its own in the caller's name, and breaks off what is open when
//! a pod has left.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use ztunnel::net::netns::Netns;
use ztunnel::net::redirect::{PROXY_MARK, Redirect, apply, join, leave, remove};
use ztunnel::net::sockets::{Options, Sockets};

use crate::Case;
use crate::world::{PATIENCE, World, at, original_destination, pod_v4, pod_v6};

pub(crate) const CASES: &[Case] = &[
    ("nobody notices that pods join and leave", unnoticed),
    ("who connects in the name of others takes no port that callers are given", ports_apart),
];

/// Who is in the mesh for a while: both ends, the caller, the server.
const IN_TURN: [&[usize]; 3] = [&[0, 1], &[0], &[1]];
/// New connections one after the other, so many at once…
const NEW: usize = 4;
/// …and kept ones.
const KEPT: usize = 16;

fn unnoticed() {
    for (ip, any) in [(pod_v4 as fn(usize) -> _, "0.0.0.0"), (pod_v6, "::")] {
        let any = any.parse().unwrap();
        let world = Arc::new(World::new(2));
        serve(&world.pods[1], at(any, 80));
        let crowd = Arc::new(Crowd::new(world.clone(), at(ip(1), 80)));
        let users = crowd.users();
        for pods in IN_TURN {
            crowd.until_all_spoke();
            let proxies: Vec<Proxy> = pods.iter().map(|pod| Proxy::start(&world.pods[*pod], any)).collect();
            for pod in pods {
                join(&world.pods[*pod], &Redirect::default()).unwrap().unwrap();
            }
            crowd.until_all_spoke();
            for (pod, proxy) in pods.iter().zip(&proxies) {
                leave(&world.pods[*pod]).unwrap();
                *crowd.left.lock().unwrap() = Instant::now();
                proxy.stop();
            }
            crowd.until_all_spoke();
            proxies.iter().for_each(Proxy::break_off);
            crowd.until_all_spoke();
            for pod in pods {
                remove(&world.pods[*pod]).unwrap();
            }
        }
        crowd.until_all_spoke();
        crowd.over.store(true, SeqCst);
        users.into_iter().for_each(|user| user.join().unwrap());
        let failures = crowd.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

fn ports_apart() {
    for ip in [pod_v4 as fn(usize) -> _, pod_v6] {
        let world = World::new(2);
        let to = at(ip(1), 80);
        let server = world.pods[1].run(|| TcpListener::bind(to)).unwrap().unwrap();
        apply(&world.pods[1], &Redirect { inbound: false, ..Redirect::default() }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sockets = sockets(&Arc::new(world.pods[1].try_clone().unwrap()));
        let mut ends = Vec::new();
        let mut port = || {
            let (stream, from) = server.accept().unwrap();
            assert_eq!(from.ip(), ip(0));
            ends.push(stream);
            from.port()
        };
        for _ in 0..100 {
            let _callers = world.pods[0].run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().unwrap();
            let of_caller = port();
            let _proxys = runtime.block_on(sockets.connect_as(ip(0), to)).unwrap();
            let of_proxy = port();
            assert_ne!(of_caller % 2, of_proxy % 2, "{of_caller} and {of_proxy}");
        }
    }
}

/// Answers each byte until there are no more.
fn serve(pod: &Netns, address: SocketAddr) {
    let listener = pod.run(|| TcpListener::bind(address)).unwrap().unwrap();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            spawn(move || {
                let mut byte = [0];
                while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

/// Programs of the first pod that speak with the second.
struct Crowd {
    world: Arc<World>,
    to: SocketAddr,
    over: AtomicBool,
    /// When a pod left last: the proxy breaks off what was opened before.
    left: Mutex<Instant>,
    /// How often each has spoken.
    spoken: Mutex<[u32; NEW + KEPT]>,
    failures: Mutex<Vec<String>>,
}

impl Crowd {
    fn new(world: Arc<World>, to: SocketAddr) -> Self {
        let (left, spoken) = (Mutex::new(Instant::now()), Mutex::new([0; NEW + KEPT]));
        Self { world, to, over: AtomicBool::new(false), left, spoken, failures: Mutex::default() }
    }

    fn users(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let user = |number| {
            let crowd = self.clone();
            spawn(move || {
                let mut kept = None;
                while !crowd.over.load(SeqCst) {
                    if let Err(error) = crowd.speak(&mut kept) {
                        crowd.failures.lock().unwrap().push(format!("user {number}: {error}"));
                    }
                    if number < NEW {
                        kept = None;
                    }
                    crowd.spoken.lock().unwrap()[number] += 1;
                    pause(5); // a few hundred new connections a second are a crowd
                }
            })
        };
        (0..NEW + KEPT).map(user).collect()
    }

    /// One question and its answer, on the connection that is there, or a new one.
    fn speak(&self, kept: &mut Option<(TcpStream, Instant)>) -> Result<(), String> {
        let asked = Instant::now();
        let (mut stream, opened) = match kept.take() {
            Some(kept) => kept,
            None => (self.open().map_err(|error| format!("connect: {error}"))?, asked),
        };
        let mut heard = [0];
        match stream.write_all(b"?").and_then(|()| stream.read_exact(&mut heard)) {
            Ok(()) => *kept = Some((stream, opened)),
            Err(_) if opened < *self.left.lock().unwrap() => {}
            Err(error) => {
                let from = stream.local_addr().map_or(0, |own| own.port());
                return Err(format!("from port {from}, {:?} after it was opened: {error}", opened.elapsed()));
            }
        }
        Ok(())
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = self.world.pods[0].run(|| TcpStream::connect_timeout(&self.to, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Everybody has had an answer, or several: what is to be disturbed goes on.
    fn until_all_spoke(&self) {
        let before = *self.spoken.lock().unwrap();
        let deadline = Instant::now() + 10 * PATIENCE;
        while self.spoken.lock().unwrap().iter().zip(before).any(|(now, before)| *now < before + 10) {
            assert!(Instant::now() < deadline, "nobody speaks any more: {:?}", self.failures.lock().unwrap());
            pause(5);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of a load, and of looking at what must come by a deadline")]
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A proxy of one pod.
struct Proxy {
    stopped: Arc<AtomicBool>,
    open: Open,
}

/// Both ends of what a proxy carries, by the caller's.
type Open = Arc<Mutex<HashMap<SocketAddr, [TcpStream; 2]>>>;

impl Proxy {
    fn start(pod: &Netns, any: std::net::IpAddr) -> Self {
        let (stopped, open) = (Arc::new(AtomicBool::new(false)), Open::default());
        let pod = Arc::new(pod.try_clone().unwrap());
        let sockets = sockets(&pod);
        for port in [15001, 15006] {
            let listener = pod.run(|| listen(at(any, port))).unwrap().unwrap();
            let (sockets, stopped, open) = (sockets.clone(), stopped.clone(), open.clone());
            spawn(move || {
                let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
                loop {
                    // Asked before, so that nobody waits who came before the end.
                    let stops = stopped.load(SeqCst);
                    match listener.accept() {
                        Ok((stream, from)) => carry(&runtime, &sockets, stream, from, &open),
                        Err(_) if stops => return,
                        Err(_) => pause(1),
                    }
                }
            });
        }
        Self { stopped, open }
    }

    /// Takes no more.
    fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// Ends what it carries.
    fn break_off(&self) {
        for end in std::mem::take(&mut *self.open.lock().unwrap()).values().flatten() {
            let _has_ended = end.shutdown(Shutdown::Both);
        }
    }
}

fn sockets(pod: &Arc<Netns>) -> Sockets {
    let options =
        Options { mark: Some(PROXY_MARK), share_ports: true, ipv6: true, keepalive: None, user_timeout: false };
    Sockets::new(Some(pod.clone()), options)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// Carries one connection to where it was meant to go, in the caller's name.
fn carry(runtime: &Arc<Runtime>, sockets: &Sockets, stream: TcpStream, from: SocketAddr, open: &Open) {
    stream.set_nonblocking(false).unwrap();
    let Some(to) = original_destination(&stream) else { return };
    // Whoever calls hears of it as of a connection that ends.
    let Ok(other) = runtime.block_on(sockets.connect_as(from.ip(), to)).and_then(|other| other.into_std()) else {
        return;
    };
    other.set_nonblocking(false).unwrap();
    let ends = [stream, other];
    let another = || ends.each_ref().map(|end| end.try_clone().unwrap());
    open.lock().unwrap().insert(from, another());
    let [there, back] = [another(), another()];
    let open = open.clone();
    spawn(move || {
        let there = spawn(move || pass(&there[0], &there[1]));
        pass(&back[1], &back[0]);
        there.join().unwrap();
        open.lock().unwrap().remove(&from);
    });
}

fn pass(mut one: &TcpStream, mut other: &TcpStream) {
    let _has_ended = io::copy(&mut one, &mut other);
    let _has_ended = other.shutdown(Shutdown::Write);
}
