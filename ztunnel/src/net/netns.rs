//! Network namespaces: hold one, tell two apart, run code inside one.
//!
//! A namespace lives as long as something refers to it, so everything here is
//! about owning a file descriptor. No namespace is ever given a name in the
//! file system, so nothing stays behind when its holders are gone.
//!
//! The one danger is a thread that stays in a foreign namespace: its next
//! socket would belong to another pod. [`Netns::run`] therefore brings the
//! thread home on every way out, a panic included, and ends the process when
//! that is impossible. There is no way to enter a namespace without it.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;

/// Where the kernel shows a thread its own network namespace.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

thread_local! {
    /// The namespace that this thread is in, once it was asked for. To ask the kernel is to open a file of
    /// `/proc`, which takes twice as long as going to a pod and back.
    static HERE: Cell<Option<Rc<Netns>>> = const { Cell::new(None) };
}

/// What tells two network namespaces apart, whatever file they were opened
/// through: the device and inode of the kernel's namespace file.
///
/// The kernel may give an inode number again once a namespace is gone, so an
/// identity means something only while a [`Netns`] of it is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// Device of the kernel's namespace file system.
    pub device: u64,
    /// Inode of this namespace.
    pub inode: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

impl fmt::Debug for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}:{}]", self.device, self.inode)
    }
}

/// A network namespace, kept alive by an open descriptor of it.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

impl Netns {
    /// Makes a new, empty namespace that nobody else refers to.
    ///
    /// It needs `CAP_SYS_ADMIN` in the user namespace of the caller and
    /// belongs to that user namespace.
    pub fn new() -> io::Result<Self> {
        // A thread of its own, which ends inside: nobody has to come home.
        let made = std::thread::Builder::new().name("new-netns".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })?;
        made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a network namespace panicked")))
    }

    /// The namespace the calling thread is in.
    pub fn current() -> io::Result<Self> {
        Self::from_path(Path::new(OWN_NAMESPACE))
    }

    /// Opens the namespace at `path`, such as `/proc/<pid>/ns/net` or
    /// `/var/run/netns/<name>`. Refuses a file that is not one.
    pub fn from_path(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Takes over an open descriptor, such as one received with a message.
    /// Refuses one that is not of a network namespace.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if !is_network_namespace(fd.as_fd()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is not of a network namespace"));
        }
        let stat = fstat(&fd)?;
        Ok(Self { fd, id: NetnsId { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Another handle to the same namespace.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, id: self.id })
    }

    /// Runs `act` with the calling thread inside this namespace and returns
    /// when the thread is home again, also when `act` panics.
    ///
    /// `act` must not wait: other work of the thread stands still meanwhile.
    /// Sockets made inside stay in the namespace for life, threads started
    /// inside are in it too. If the thread cannot return home the process
    /// aborts, because whatever it did next would be done in another pod.
    ///
    /// Where a thread is at home is asked for once: one that has called this
    /// must not be moved to another namespace in any other way.
    pub fn run<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let home = match HERE.take() {
            Some(home) => home,
            None => Rc::new(Self::current()?),
        };
        if home.id == self.id {
            HERE.set(Some(home));
            return Ok(act());
        }
        // While it is away, HERE says nothing: who goes on from there asks the kernel.
        let _home = WayHome { home };
        setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
        Ok(act())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `act` inside `netns`; see [`Netns::run`].
pub fn run_in<T>(netns: &Netns, act: impl FnOnce() -> T) -> io::Result<T> {
    netns.run(act)
}

/// Brings the thread home when dropped, which unwinding does too.
struct WayHome {
    home: Rc<Netns>,
}

impl Drop for WayHome {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.home.fd, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%errno, home = %self.home.id, "a thread cannot leave a pod's network namespace, ending the process");
            std::process::abort();
        }
        HERE.set(Some(self.home.clone()));
    }
}

mod ioctl {
    nix::ioctl_none_bad!(ns_get_nstype, nix::request_code_none!(0xb7, 0x3));
}

/// Whether a descriptor is a namespace, and of the network kind.
fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; on a
    // descriptor of another sort the kernel answers ENOTTY. `fd` is open for
    // the duration of the borrow.
    #[expect(unsafe_code, reason = "nix has no call for NS_GET_NSTYPE")]
    let kind = unsafe { ioctl::ns_get_nstype(fd.as_raw_fd()) };
    kind == Ok(nix::libc::CLONE_NEWNET)
}
