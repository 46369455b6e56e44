//! Where links of partners come in: a Unix socket that only the link account and root may open. Who comes hands over the
//! two ends of its SSH channel and says which partner's key opened it, and at which address; from then on the daemon talks to the partner
//! itself, without a process or a copy in between.

use std::{
    io::{IoSlice, IoSliceMut},
    net::IpAddr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt::PeerCredentials,
    },
    unistd::{Uid, User},
};

use super::{Error, Kind, Result, ssh::ACCOUNT};
use crate::types::SystemId;

/// Where it is. Outside of the daemon's own folder, which the link account can't look into.
pub const PATH: &str = "/run/vsnap-link.sock";
/// How long a process that came has to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for an id, a space, and an address.
const TEXT_BYTES: usize = 96;

/// A link that came in.
pub struct Incoming {
    /// Whose key opened it.
    pub partner: SystemId,
    /// Address of this appliance that it came to, if that is known.
    pub address: Option<IpAddr>,
    /// From the partner.
    pub input: OwnedFd,
    /// To the partner.
    pub output: OwnedFd,
    /// The process that brought it waits until this is closed.
    pub bringer: UnixStream,
}

/// The socket.
pub struct LinkSocket {
    listener: UnixListener,
    account: Uid,
}

impl LinkSocket {
    /// Listens. `Missing` when there is no link account.
    pub fn bind(path: &Path) -> Result<Self> {
        let action = || format!("listening on {}", path.display());
        let io = |error: std::io::Error| Error::io(action(), &error);
        let account = User::from_name(ACCOUNT).map_err(|error| io(error.into()))?;
        let missing = || Error::new(Kind::Missing, action(), format!("there is no account {ACCOUNT}"));
        let account = account.ok_or_else(missing)?;
        // Left by a daemon that was killed; it is ours by its place and kind, and nobody but root can put one there.
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path).map_err(io)?;
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        std::os::unix::fs::chown(path, Some(0), Some(account.gid.as_raw())).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io)?;
        Ok(LinkSocket { listener, account: account.uid })
    }

    /// The next link. An error is of this one alone.
    pub fn accept(&self) -> Result<Incoming> {
        let action = "taking a link";
        let io = |error: std::io::Error| Error::io(action, &error);
        let (bringer, _) = self.listener.accept().map_err(io)?;
        let peer = getsockopt(&bringer, PeerCredentials).map_err(|error| io(error.into()))?;
        let uid = Uid::from_raw(peer.uid());
        if uid != self.account && !uid.is_root() {
            return Err(Error::new(Kind::Denied, action, format!("user {uid} may not bring one")));
        }
        bringer.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        let (text, ends) = receive(&bringer).map_err(|error| io(error.into()))?;
        let mut ends = ends.into_iter();
        let (Some(input), Some(output)) = (ends.next(), ends.next()) else {
            return Err(Error::new(Kind::Other, action, "it came without its ends"));
        };
        let (partner, address) =
            introduction(&text).ok_or_else(|| Error::new(Kind::Other, action, "it came without a partner's id"))?;
        Ok(Incoming { partner, address, input, output, bringer })
    }
}

fn receive(bringer: &UnixStream) -> nix::Result<(String, Vec<OwnedFd>)> {
    let mut text = [0; TEXT_BYTES];
    let mut space = cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<UnixAddr>(bringer.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut ends = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
            #[allow(unsafe_code, reason = "the only way to own a descriptor that came by a message")]
            ends.extend(descriptors.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    let bytes = message.bytes;
    Ok((String::from_utf8_lossy(&text[..bytes]).into_owned(), ends))
}

/// What one says who brings a link: the partner, and the address that it came to.
fn introduction(text: &str) -> Option<(SystemId, Option<IpAddr>)> {
    let (partner, address) = text.split_once(' ').unwrap_or((text, ""));
    Some((partner.parse().ok()?, address.parse().ok()))
}

/// The server's address in `SSH_CONNECTION`: `client port server port` (ssh(1)).
pub fn server_address(connection: &str) -> Option<IpAddr> {
    connection.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Brings a link to the daemon and waits until it is over: what `vsnap-link` does.
pub fn bring(
    path: &Path,
    partner: &SystemId,
    address: Option<IpAddr>,
    (input, output): (RawFd, RawFd),
) -> std::io::Result<()> {
    let daemon = UnixStream::connect(path)?;
    let ends = [input, output];
    let text = address.map_or_else(|| partner.to_string(), |address| format!("{partner} {address}"));
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg::<()>(daemon.as_raw_fd(), &parts, &[ControlMessage::ScmRights(&ends)], MsgFlags::empty(), None)?;
    // The daemon says nothing here; it closes.
    std::io::Read::read(&mut &daemon, &mut [0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_a_link_says_for_whom_and_where_it_came_in() {
        let partner = SystemId::random();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(server_address("192.0.2.7 50312 2001:db8::1 22"), Some(address));
        assert_eq!(server_address("192.0.2.7 50312"), None);
        assert_eq!(introduction(&format!("{partner} {address}")), Some((partner.clone(), Some(address))));
        assert_eq!(introduction(partner.as_str()), Some((partner, None)));
        assert_eq!(introduction("192.0.2.7"), None);
    }
}
