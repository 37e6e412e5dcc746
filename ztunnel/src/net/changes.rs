//! Word of changes in a namespace: its firewall rules, its addresses, its
//! routes. It says that something changed, never what: whoever waits looks
//! for itself, and so nothing is lost when word is.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

use super::netns::Netns;

// From linux/rtnetlink.h and nfnetlink.h, as bits of the bind mask.
const GROUP_IPV4_ADDRESSES: u32 = 1 << (5 - 1);
const GROUP_IPV4_ROUTES: u32 = 1 << (7 - 1);
const GROUP_IPV4_POLICY_ROUTES: u32 = 1 << (8 - 1);
const GROUP_IPV6_ADDRESSES: u32 = 1 << (9 - 1);
const GROUP_IPV6_ROUTES: u32 = 1 << (11 - 1);
const GROUP_IPV6_POLICY_ROUTES: u32 = 1 << (19 - 1);
const GROUP_FIREWALL: u32 = 1 << (7 - 1);

/// Messages are thrown away unread; only that there are some counts.
const SCRAP_BYTES: usize = 4096;

/// Tells of changes in one namespace.
#[derive(Debug)]
pub struct Changes {
    links: AsyncFd<OwnedFd>,
    firewall: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Begins to listen inside `netns`. Needs a runtime.
    pub fn of(netns: &Netns) -> io::Result<Self> {
        let ipv4 = GROUP_IPV4_ADDRESSES | GROUP_IPV4_ROUTES | GROUP_IPV4_POLICY_ROUTES;
        let ipv6 = GROUP_IPV6_ADDRESSES | GROUP_IPV6_ROUTES | GROUP_IPV6_POLICY_ROUTES;
        let (links, firewall) = netns.run(|| {
            let links = listen(SockProtocol::NetlinkRoute, ipv4 | ipv6)?;
            Ok::<_, io::Error>((links, listen(SockProtocol::NetlinkNetFilter, GROUP_FIREWALL)?))
        })??;
        Ok(Self { links: watch(links)?, firewall: watch(firewall)? })
    }

    /// Waits until something changed since the last call. Cancel safe.
    pub async fn next(&self) -> io::Result<()> {
        tokio::select! {
            heard = heard(&self.links) => heard,
            heard = heard(&self.firewall) => heard,
        }
    }
}

fn listen(protocol: SockProtocol, groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

async fn heard(fd: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = fd.readable().await?;
        match ready.try_io(|fd| drain(fd.get_ref())) {
            Ok(result) => return result,
            Err(_would_block) => {}
        }
    }
}

/// Reads all there is. Too much to keep is a change as well.
fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut scrap = [0; SCRAP_BYTES];
    let mut any = false;
    loop {
        match recv(fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_TRUNC) {
            Ok(_) | Err(Errno::ENOBUFS) => any = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if any => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[expect(unsafe_code, reason = "tokio asks its caller to vouch for the descriptor")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and says the same number, until the `AsyncFd` that holds it drops it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}
