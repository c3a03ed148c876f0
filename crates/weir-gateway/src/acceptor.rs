//! The listening socket. What it accepts is known to no event loop yet: most live connections can be answered at once and
//! go to the hub, and signing them up with the runtime first would cost as much as accepting them.

use std::io;
use std::net::SocketAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use weir_hub::{ListeningSocket, Socket};

/// Connections that may wait to be accepted: room for a herd that comes back between two turns of the accept loop.
const WAITING: u32 = 4096;

/// A listener for [`serve`](crate::serve).
pub struct Acceptor(AsyncFd<ListeningSocket>);

impl Acceptor {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // What is accepted inherits it: one call to the kernel for all.
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        let listener = socket.listen(WAITING)?.into_std()?;
        let listener = ListeningSocket::from_std(listener);
        // Its heir is `unsafe`, for the sake of types that do not own their descriptor. This one does.
        #[expect(deprecated)]
        Ok(Self(AsyncFd::with_interest(listener, Interest::READABLE)?))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// The next connection, and where it comes from.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        self.0.async_io(Interest::READABLE, ListeningSocket::accept).await
    }
}

#[cfg(test)]
mod tests {
    use super::Acceptor;

    #[tokio::test]
    async fn what_is_accepted_never_waits_to_send() {
        let acceptor = Acceptor::bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let address = acceptor.local_addr().expect("its address");
        let _client = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (socket, _) = acceptor.accept().await.expect("its other end");
        assert!(socket.nodelay().expect("the option"), "accepted sockets inherit TCP_NODELAY");
        let nothing = socket.peek(&mut [0]).expect_err("nothing was sent");
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}
