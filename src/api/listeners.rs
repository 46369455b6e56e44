//! Sockets that listen for the API: on the addresses of the configuration, and, when some interface lacks `mgmt`, only
//! on the interfaces that have it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
};

use nix::{
    libc::{EADDRNOTAVAIL, EAFNOSUPPORT},
    net::if_::if_nameindex,
    sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt},
};

/// An interface of this kernel; its index stays when it is renamed, and is another one when it is made anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Interface {
    index: u32,
    name: String,
}

/// Where a socket listens: on one interface, or with `None` on all of them.
pub(super) type Place = Option<Interface>;

/// Where to listen while these interfaces lack `mgmt`. The loopback never does.
pub(super) fn places(without_management: &BTreeSet<String>) -> io::Result<BTreeSet<Place>> {
    if without_management.is_empty() {
        return Ok(BTreeSet::from([None]));
    }
    let all = if_nameindex()?;
    let interfaces = all.iter().filter_map(|interface| {
        // Names that are no UTF-8 are none that `mgmt` was taken from, and none that a socket could be told here.
        let name = interface.name().to_str().ok()?;
        (!without_management.contains(name))
            .then(|| Some(Interface { index: interface.index(), name: name.to_owned() }))
    });
    Ok(interfaces.collect())
}

/// Listens on all of these addresses.
pub(super) fn bind_all(addresses: &[SocketAddr], place: &Place) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let bind_one = |address: &SocketAddr| {
        // A separate IPv4 listener on the same port leaves only IPv6 to this one.
        let split = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        bind(*address, split, place).map_err(|error| (*address, error))
    };
    addresses.iter().map(bind_one).collect()
}

fn bind(address: SocketAddr, only_v6: bool, place: &Place) -> io::Result<TcpListener> {
    match open(address, only_v6, place) {
        // IPv6 is switched off in this kernel: "all addresses" then means all of IPv4.
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL)) =>
        {
            let fallback = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port());
            tracing::warn!(%address, %fallback, "IPv6 is not available");
            open(fallback, false, place)
        }
        result => result,
    }
}

fn open(address: SocketAddr, only_v6: bool, place: &Place) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Stream, flags, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // Said outright, because a sysctl changes the default.
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
    }
    if let Some(interface) = place {
        socket::setsockopt(&fd, sockopt::BindToDevice, &OsString::from(&interface.name))?;
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    socket::listen(&fd, socket::Backlog::new(1024)?)?;
    Ok(TcpListener::from(fd))
}

impl std::fmt::Display for Interface {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn all_interfaces_are_listened_on_at_once_until_one_is_left_out() {
        assert_eq!(places(&BTreeSet::new()).unwrap(), BTreeSet::from([None]));
        let left = places(&BTreeSet::from(["eth7".to_owned()])).unwrap();
        let loopback = left.iter().flatten().find(|interface| interface.name == "lo").unwrap();
        assert!(!left.contains(&None));

        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let everywhere = bind_all(&[any], &None).unwrap();
        let address = everywhere[0].local_addr().unwrap();
        let (_, error) = bind_all(&[address], &Some(loopback.clone())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(everywhere);
        let one = bind_all(&[address], &Some(loopback.clone())).unwrap();
        assert_eq!(one[0].local_addr().unwrap(), address);
        let gone = Interface { index: u32::MAX, name: "gone".to_owned() };
        assert_eq!(bind_all(&[address], &Some(gone)).unwrap_err().1.raw_os_error(), Some(nix::libc::ENODEV));
    }
}
