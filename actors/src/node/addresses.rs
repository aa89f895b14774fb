//! Where peers are told that this node can be reached: its listeners, with the addresses of the machine's interfaces in place of
//! `[::]` and `0.0.0.0`. The list is made anew when a listener is opened and a while after interfaces or their addresses changed,
//! and told only when it really differs.
//!
//! The actor is a child of the supervisor of transports, permanent. A restart looks again; what was told last is shared by all lives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext as _, Handler, WrapFuture as _};
use bowline_messages::transport::ListenAddresses;
use bowline_messages::{EndpointAddress, TransportKind};
use futures_util::future::join_all;

use super::NodeError;
use super::peers::{Advertise, PeersActor};
use super::services::Services;
use crate::supervision::{CallError, Context, call_within};
use crate::transport::actor::TransportActor;
use crate::transport::interfaces::AddressesChanged;
use crate::transport::registry::leads_through_others;

/// Addresses that are told to peers at most.
const ADDRESSES_TOLD_MAX: usize = 16;
/// How long a transport may take to say where it listens; then what it said last counts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What the handle of a node and the actor share.
pub(super) struct Addresses {
    pub(super) services: Rc<Services>,
    pub(super) transports: Rc<BTreeMap<TransportKind, Addr<TransportActor>>>,
    pub(super) peers: Addr<PeersActor>,
    /// Told instead of where the transports listen.
    pub(super) fixed: Option<Vec<EndpointAddress>>,
    /// The addresses of this machine.
    pub(super) here: Rc<dyn Fn() -> Vec<IpAddr>>,
    /// Where each transport listened when it last said so.
    pub(super) listening: RefCell<BTreeMap<TransportKind, Vec<EndpointAddress>>>,
    /// What peers were told last.
    pub(super) told: RefCell<Option<Vec<String>>>,
}

impl Addresses {
    /// Where the transports listen for whoever dials directly. One that does not answer in time counts with what it said last.
    pub(super) async fn listening(&self) -> Result<Vec<EndpointAddress>, NodeError> {
        let asked = self.transports.iter().map(|(kind, transport)| async move {
            (kind.clone(), call_within(transport, ListenAddresses, ANSWER_TIMEOUT).await)
        });
        for (kind, answer) in join_all(asked).await {
            match answer {
                Ok(addresses) => {
                    self.listening.borrow_mut().insert(kind, addresses);
                }
                Err(CallError::Closed) => return Err(NodeError::Gone),
                Err(CallError::Lost | CallError::Timeout | CallError::Full) => {
                    tracing::warn!(transport = %kind, "a transport does not say where it listens");
                }
            }
        }
        let open = self.listening.borrow();
        let direct = open.iter().filter(|(kind, _)| !leads_through_others(kind));
        Ok(direct.flat_map(|(_, addresses)| addresses).cloned().collect())
    }

    /// Tells every peer where this node can be reached, unless they were told just that. Says whether it was something new.
    pub(super) async fn advertise(&self) -> Result<bool, NodeError> {
        let listening = match &self.fixed {
            Some(addresses) => addresses.clone(),
            None => self.listening().await?,
        };
        let told: Vec<String> = reachable(&listening, &(self.here)()).iter().map(ToString::to_string).collect();
        if self.told.borrow().as_ref() == Some(&told) {
            return Ok(false);
        }
        let version = self.services.own_addresses().map_or(0, |known| known.version) + 1;
        // Grows across restarts as well: the upper half is the life of the process.
        let version = version.max(self.services.incarnation.0 << 32);
        let signed = self.services.identity.sign_addresses(version, told.clone());
        // At once, so that another call does not give the same version to something else.
        self.services.set_own_addresses(signed.clone());
        self.peers.send(Advertise(signed)).await?;
        tracing::debug!(addresses = ?told, "peers are told where this node can be reached");
        *self.told.borrow_mut() = Some(told);
        Ok(true)
    }
}

/// Listeners as others can reach them on a machine with these addresses: each once, and no more than peers are told. Where there are
/// more, every listener keeps its share of the places: one transport that is cut off somewhere must not be the only one told. Pure.
fn reachable(listening: &[EndpointAddress], here: &[IpAddr]) -> Vec<EndpointAddress> {
    let mut listeners: Vec<Vec<EndpointAddress>> = Vec::new();
    for listener in listening {
        let mut fresh = with_real_host(listener, here);
        fresh.retain(|address| !listeners.iter().flatten().any(|known| known == address));
        listeners.push(fresh);
    }
    let mut shares = vec![0; listeners.len()];
    let mut places = ADDRESSES_TOLD_MAX;
    while places > 0 && listeners.iter().zip(&shares).any(|(all, share)| *share < all.len()) {
        for (all, share) in listeners.iter().zip(&mut shares) {
            if places > 0 && *share < all.len() {
                *share += 1;
                places -= 1;
            }
        }
    }
    listeners.into_iter().zip(shares).flat_map(|(all, share)| all.into_iter().take(share)).collect()
}

/// An address that listens on all interfaces as the addresses that those have; any other as it is.
fn with_real_host(address: &EndpointAddress, here: &[IpAddr]) -> Vec<EndpointAddress> {
    let Some(any) = address.ip().filter(IpAddr::is_unspecified) else { return vec![address.clone()] };
    // `[::]` takes IPv4 connections as well.
    let here = here.iter().filter(|ip| ip.is_ipv4() || any.is_ipv6());
    here.map(|ip| EndpointAddress::new(address.kind().clone(), &ip.to_string(), address.port(), address.path()))
        .collect()
}

/// Looks again a while after something changed.
pub(super) struct AddressesActor {
    addresses: Rc<Addresses>,
    /// How long changes are gathered: they come in bursts.
    settle: Duration,
    /// Whether a look is due.
    waiting: bool,
}

impl AddressesActor {
    pub(super) fn new(addresses: Rc<Addresses>, settle: Duration) -> Self {
        Self { addresses, settle, waiting: false }
    }

    /// Looks once the changes have settled; further ones until then are part of it. So an interface that comes and goes without end is
    /// followed all the same, and once in that time at most.
    fn look_later(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.waiting, true) {
            return;
        }
        ctx.run_later(self.settle, |actor, ctx| {
            actor.waiting = false;
            let addresses = Rc::clone(&actor.addresses);
            let look = async move {
                if let Err(error) = addresses.advertise().await {
                    tracing::debug!(%error, "peers were not told where this node can be reached");
                }
            };
            ctx.spawn(look.into_actor(actor));
        });
    }
}

impl Actor for AddressesActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The life before may have had a look due.
        if ctx.restarts() > 0 {
            self.look_later(ctx);
        }
    }
}

impl Handler<AddressesChanged> for AddressesActor {
    type Result = ();

    fn handle(&mut self, _: AddressesChanged, ctx: &mut Self::Context) {
        // Before the first listener there is nothing to tell.
        if self.addresses.told.borrow().is_some() {
            self.look_later(ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use bowline_messages::Incarnation;
    use bowline_messages::config::SessionConfig;

    use super::*;
    use crate::session::identity::Identity;
    use crate::session::trust::Trust;

    fn at(texts: &[&str]) -> Vec<EndpointAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn listeners_on_all_interfaces_are_told_with_the_addresses_there_are() {
        let here: Vec<IpAddr> = ["192.0.2.7", "2001:db8::1"].iter().map(|ip| ip.parse().unwrap()).collect();
        let told = reachable(&at(&["tcp://[::]:1", "quic://0.0.0.0:2", "ws://127.0.0.1:3/x"]), &here);
        let expected = ["tcp://192.0.2.7:1", "tcp://[2001:db8::1]:1", "quic://192.0.2.7:2", "ws://127.0.0.1:3/x"];
        assert_eq!(told, at(&expected));
        assert_eq!(reachable(&at(&["tcp://[::]:1"]), &[]), []);
    }

    /// An actor that never answers: nobody looks into its mailbox.
    fn wedged<A: Actor>() -> (Addr<A>, impl Sized) {
        let (sender, receiver) = actix::dev::channel::channel(16);
        (Addr::new(sender), receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_that_does_not_answer_counts_with_what_it_said_last_and_holds_nobody_up() {
        let identity = Arc::new(Identity::from_seed(&[1; 32]));
        let (tcp, _tcp) = wedged();
        let (peers, _peers) = wedged();
        let addresses = Addresses {
            services: Rc::new(Services::new(identity, Incarnation(1), SessionConfig::default(), Trust::default(), 1)),
            transports: Rc::new(BTreeMap::from([(TransportKind::new("tcp"), tcp)])),
            peers,
            fixed: None,
            here: Rc::new(Vec::new),
            listening: RefCell::new(BTreeMap::from([(TransportKind::new("tcp"), at(&["tcp://127.0.0.1:1"]))])),
            told: RefCell::default(),
        };
        let asked = tokio::time::timeout(2 * ANSWER_TIMEOUT, addresses.listening()).await;
        assert_eq!(asked.unwrap().unwrap(), at(&["tcp://127.0.0.1:1"]));
    }

    #[test]
    fn every_address_is_told_once_and_not_without_end() {
        let here: Vec<IpAddr> = (0..40).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        assert_eq!(reachable(&at(&["tcp://[::]:1", "tcp://0.0.0.0:1"]), &here[..3]).len(), 3);
        assert_eq!(reachable(&at(&["tcp://[::]:1"]), &here).len(), ADDRESSES_TOLD_MAX);
    }

    #[test]
    fn on_a_machine_with_many_addresses_every_listener_keeps_its_share_of_the_places() {
        let here: Vec<IpAddr> = (0..40).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let told = reachable(&at(&["quic://[::]:1", "tcp://[::]:1", "wss://127.0.0.1:2/x"]), &here);
        let of = |kind: &str| told.iter().filter(|address| address.kind().as_str() == kind).count();
        assert_eq!((of("quic"), of("tcp"), of("wss")), (8, 7, 1));
        let (quic, tcp) = (&told[..8], &told[8..15]);
        let hosts = |some: &[EndpointAddress]| some.iter().map(EndpointAddress::ip).collect::<Vec<_>>();
        assert_eq!(hosts(&quic[..7]), hosts(tcp), "the same first addresses");
    }
}
