//! The kernel's table of TCP sockets, asked for over netlink: what `ss` shows, without starting it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED, TCP_LISTEN};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as KernelAddr};

use crate::domain::{Error, ErrorKind, Result};

/// The kernel fills at most this much at a time.
const CHUNK: usize = 32 * 1_024;

/// One established socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TcpSocket {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) inode: u32,
}

/// The TCP sockets of this network namespace.
#[derive(Debug, Default)]
pub(super) struct TcpSockets {
    pub(super) established: Vec<TcpSocket>,
    listening: HashSet<SocketAddr>,
}

impl TcpSockets {
    /// Returns whether something listens where this end is: then the other side came to us.
    pub(super) fn is_listening(&self, local: SocketAddr) -> bool {
        let port = local.port();
        let everywhere = [IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8])];
        self.listening.contains(&local)
            || everywhere.into_iter().any(|any| self.listening.contains(&SocketAddr::new(any, port)))
    }
}

/// Asks for all established and listening sockets, IPv4 and IPv6.
pub(super) fn tcp_sockets() -> Result<TcpSockets> {
    let mut sockets = TcpSockets::default();
    let asked = (|| {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&KernelAddr::new(0, 0))?;
        dump(&socket, AF_INET, &mut sockets)?;
        match dump(&socket, AF_INET6, &mut sockets) {
            // A kernel without IPv6 has no such sockets.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })();
    match asked {
        Ok(()) => Ok(sockets),
        Err(error) => Err(Error::new(ErrorKind::Unavailable, "cannot ask the kernel for its TCP sockets")
            .with_hint("see that the kernel has inet_diag: `modprobe tcp_diag`")
            .with_source(error)),
    }
}

fn dump(socket: &Socket, family: u8, into: &mut TcpSockets) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED | StateFlags::LISTEN,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK);
    loop {
        buffer.clear();
        let length = socket.recv(&mut buffer, 0)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's answer ended early"));
        }
        if length > CHUNK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is longer than it may be"));
        }
        if take(&buffer[..length], into)? {
            return Ok(());
        }
    }
}

/// Takes one datagram of answers; returns whether it was the last.
fn take(mut bytes: &[u8], into: &mut TcpSockets) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                let id = &response.header.socket_id;
                // A socket of both families calls an IPv4 peer ::ffff:a.b.c.d; people and comparisons do not.
                let local = SocketAddr::new(id.source_address.to_canonical(), id.source_port);
                let remote = SocketAddr::new(id.destination_address.to_canonical(), id.destination_port);
                match response.header.state {
                    TCP_ESTABLISHED => {
                        into.established.push(TcpSocket { local, remote, inode: response.header.inode });
                    }
                    TCP_LISTEN => {
                        into.listening.insert(local);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        // Messages stand at multiples of four.
        let length = (message.header.length as usize).next_multiple_of(4);
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent an empty message"));
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn see(listener: TcpListener) {
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let sockets = tcp_sockets().unwrap();
        let ours = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert!(sockets.established.iter().any(|s| (s.local, s.remote) == ours && s.inode != 0), "{sockets:?}");
        assert!(sockets.is_listening(server.local_addr().unwrap()));
        assert!(!sockets.is_listening(client.local_addr().unwrap()));
    }

    #[test]
    fn a_connection_is_seen_from_both_ends() {
        see(TcpListener::bind("127.0.0.1:0").unwrap());
        see(TcpListener::bind("0.0.0.0:0").unwrap());
    }

    #[test]
    fn a_connection_by_ipv6_is_seen() {
        match TcpListener::bind("[::1]:0") {
            Ok(listener) => see(listener),
            Err(error) => eprintln!("skipped: no IPv6 here ({error})"),
        }
    }

    #[test]
    fn bytes_that_are_no_answer_are_an_error() {
        let mut sockets = TcpSockets::default();
        assert!(take(&[0; 16], &mut sockets).is_err());
        assert!(take(&[1, 2, 3], &mut sockets).is_err());
    }
}
