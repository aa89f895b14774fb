//! TCP whose connections go another way than their addresses say: through the forwarder of the parent process, which can cut them. Nothing else is
//! changed: nodes tell each other where they really listen, and a link is known by that address.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bowline_actors::transport::registry::Registry;
use bowline_actors::transport::tcp::{SCHEME, TcpTransport};
use bowline_actors::transport::{
    Capabilities, DialOptions, Lane, LaneBuffers, Link, LinkEnds, Listener, Transport, TransportError,
};
use bowline_messages::{EndpointAddress, PeerId, TransportKind};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

/// Where the connections to each peer go. To others there is no way.
pub(super) type Ways = Rc<RefCell<BTreeMap<PeerId, SocketAddr>>>;

/// Every transport there is, TCP with this detour.
pub(super) fn registry(ways: &Ways) -> Registry {
    let mut registry = Registry::builtin();
    let ways = Rc::clone(ways);
    registry.register(SCHEME, move |context| {
        let tcp = TcpTransport::new(context.tuning(), context.interfaces.clone());
        Ok(Rc::new(Detour { tcp, ways: Rc::clone(&ways) }))
    });
    registry
}

struct Detour {
    tcp: TcpTransport,
    ways: Ways,
}

impl Transport for Detour {
    fn kind(&self) -> TransportKind {
        self.tcp.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.tcp.capabilities()
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        self.tcp.listen(address)
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        let Some(way) = self.ways.borrow().get(&options.expect).copied() else {
            let nowhere = io::Error::from(io::ErrorKind::NetworkUnreachable);
            return Box::pin(std::future::ready(Err(nowhere.into())));
        };
        let dialled = self.tcp.dial(&EndpointAddress::from_socket(self.kind(), way), options);
        let remote = address.clone();
        Box::pin(async move {
            let link = dialled.await?;
            let ends = LinkEnds { remote, ..link.ends().clone() };
            Ok(Box::new(Detoured { link, ends }) as Box<dyn Link>)
        })
    }
}

/// A connection that went another way.
struct Detoured {
    link: Box<dyn Link>,
    ends: LinkEnds,
}

impl Link for Detoured {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        self.link.poll_write(cx, lane, data)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.link.poll_flush(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        self.link.poll_read(cx, into)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.link.poll_close(cx)
    }
}
