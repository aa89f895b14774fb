//! Which transports there are: one row each. Nothing else in Bowline knows a transport by its name.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bowline_messages::TransportKind;
use bowline_messages::config::TransportConfig;

use super::interfaces::InterfaceTable;
use super::mesh::{self, MeshPort, MeshTransport};
use super::socket::SocketTuning;
use super::{Transport, TransportError, tcp};
use crate::session::identity::Identity;

/// What a transport may need to be made.
#[derive(Debug, Clone)]
pub struct TransportContext {
    /// Who this node is; transports that authenticate certify themselves with it.
    pub identity: Arc<Identity>,
    /// How transports behave.
    pub config: TransportConfig,
    /// Tells over which interface a link runs.
    pub interfaces: InterfaceTable,
    /// Where links through other peers begin; none when this node takes no part in a mesh.
    pub mesh: Option<MeshPort>,
}

impl TransportContext {
    /// A context with default behaviour.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, config: TransportConfig::default(), interfaces: InterfaceTable::default(), mesh: None }
    }

    /// How TCP sockets are to be tuned.
    pub fn tuning(&self) -> SocketTuning {
        SocketTuning {
            keepalive: self.config.keep_alive,
            user_timeout: self.config.keep_alive,
            unsent_bytes_max: self.config.unsent_bytes_max,
            ..SocketTuning::default()
        }
    }
}

/// Whether a transport protects what it carries by itself, beside the session's own seal.
pub fn is_secured(kind: &TransportKind) -> bool {
    #[cfg(feature = "tls")]
    if kind.as_str() == super::tls::SCHEME {
        return true;
    }
    #[cfg(feature = "quic")]
    if kind.as_str() == super::quic::SCHEME {
        return true;
    }
    #[cfg(feature = "ws")]
    if kind.as_str() == super::ws::SCHEME_TLS {
        return true;
    }
    kind.as_str() == mesh::SCHEME
}

/// Whether links of a transport lead through other peers: nobody can be told to dial there, and whether there is a way is for the routing to say.
pub fn leads_through_others(kind: &TransportKind) -> bool {
    kind.as_str() == mesh::SCHEME
}

/// Makes a transport.
///
/// # Errors
/// What is wrong with the configuration (certificates that cannot be read, say).
pub type Constructor = Rc<dyn Fn(&TransportContext) -> Result<Rc<dyn Transport>, TransportError>>;

/// The transports of a node, by scheme.
#[derive(Clone, Default)]
pub struct Registry {
    rows: BTreeMap<TransportKind, Constructor>,
}

impl Registry {
    /// No transports.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every transport that is compiled in. The simulated network is not among them: it needs a network to be part of, and
    /// is registered by whoever has one.
    pub fn builtin() -> Self {
        let mut registry = Self::empty();
        registry.register(tcp::SCHEME, |context| {
            Ok(Rc::new(tcp::TcpTransport::new(context.tuning(), context.interfaces.clone())))
        });
        registry.register(mesh::SCHEME, |context| Ok(Rc::new(MeshTransport::new(context))));
        #[cfg(feature = "tls")]
        registry.register(super::tls::SCHEME, |context| Ok(Rc::new(super::tls::TlsTransport::new(context)?)));
        #[cfg(feature = "quic")]
        registry.register(super::quic::SCHEME, |context| Ok(Rc::new(super::quic::QuicTransport::new(context)?)));
        #[cfg(feature = "ws")]
        {
            use super::ws::{SCHEME, SCHEME_TLS, WsTransport};
            registry.register(SCHEME, |context| Ok(Rc::new(WsTransport::plain(context))));
            registry.register(SCHEME_TLS, |context| Ok(Rc::new(WsTransport::secure(context)?)));
        }
        registry
    }

    /// Adds a transport, or replaces the one with the same scheme.
    pub fn register<F>(&mut self, scheme: &str, constructor: F)
    where
        F: Fn(&TransportContext) -> Result<Rc<dyn Transport>, TransportError> + 'static,
    {
        self.rows.insert(TransportKind::new(scheme), Rc::new(constructor));
    }

    /// The schemes, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &TransportKind> {
        self.rows.keys()
    }

    /// Makes the transport with this scheme; `None` when there is no such row.
    pub fn build(
        &self,
        kind: &TransportKind,
        context: &TransportContext,
    ) -> Option<Result<Rc<dyn Transport>, TransportError>> {
        self.rows.get(kind).map(|constructor| constructor(context))
    }

    /// Makes every transport.
    ///
    /// # Errors
    /// The first that cannot be made, with its scheme.
    pub fn build_all(
        &self,
        context: &TransportContext,
    ) -> Result<Vec<Rc<dyn Transport>>, (TransportKind, TransportError)> {
        let build = |(kind, constructor): (&TransportKind, &Constructor)| {
            constructor(context).map_err(|error| (kind.clone(), error))
        };
        self.rows.iter().map(build).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.rows.keys().map(TransportKind::as_str)).finish()
    }
}
