//! `tcp`: plain TCP, one lane. What it carries is sealed by the session, so nothing is lost by its being plain.

mod link;
mod listener;

use std::rc::Rc;

use bowline_messages::{EndpointAddress, TransportKind};
use futures_util::future::LocalBoxFuture;

pub(crate) use link::TcpLink;
#[cfg(feature = "tls")]
pub(crate) use listener::AcceptsTcp;
pub(crate) use listener::{Refusals, StreamListener, is_exhaustion};

use super::interfaces::InterfaceTable;
use super::socket::{self, SocketTuning};
use super::{Capabilities, DialOptions, Link, Listener, Transport, TransportError};

/// The scheme.
pub const SCHEME: &str = "tcp";

/// The `tcp` transport.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    kind: TransportKind,
    tuning: Rc<SocketTuning>,
    interfaces: InterfaceTable,
    /// Refused connections that are being told so.
    refusals: Refusals,
}

impl TcpTransport {
    /// A transport with this tuning; `interfaces` tells over which interface a link runs.
    pub fn new(tuning: SocketTuning, interfaces: InterfaceTable) -> Self {
        let refusals = Refusals::default();
        Self { kind: TransportKind::new(SCHEME), tuning: Rc::new(tuning), interfaces, refusals }
    }
}

impl Default for TcpTransport {
    fn default() -> Self {
        Self::new(SocketTuning::default(), InterfaceTable::default())
    }
}

impl Transport for TcpTransport {
    fn kind(&self) -> TransportKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: 1, encrypted: false, binds: true, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let listener = socket::listen(&address, None).await?;
            Ok(Box::new(StreamListener::new(listener, transport)?) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let stream = socket::connect(&address, None, &options.binding, options.timeout, &transport.tuning).await?;
            let ends = socket::ends(&stream, &transport.kind, Some(&address), &transport.interfaces)?;
            Ok(Box::new(TcpLink::new(stream, ends)) as Box<dyn Link>)
        })
    }
}
