//! What nodes tell each other beside messages: datagrams to the peers with which there are sessions, and from them to the actor whose
//! concern they are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Handler, Message, Recipient};
use bowline_messages::network::{Concern, GroupPacket, Neighbour};
use bowline_messages::{Incarnation, MessageClass, PeerId};
use bytes::Bytes;

use super::peers::PeerTable;
use super::places::{Place, Places};
use crate::clock;
use crate::membership::actor::MembershipActor;
use crate::partition::actor::GroupActor;
use crate::routing::actor::RouterActor;
use crate::session::datagrams::DatagramError;
use crate::session::outbox::Datagram;
use crate::topology::actor::TopologyActor;

/// The mailbox of an actor that takes datagrams: what finds no room is lost, which all of them bear.
pub(super) const PORT_MAILBOX: usize = 2_048;
/// How many of those places datagrams take: what the node itself tells the actor finds room beside them.
const DATAGRAM_PLACES: usize = PORT_MAILBOX / 4 * 3;

/// A datagram in the mailbox of the actor whose concern it is, with the place that it takes there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Carried {
    /// The datagram.
    pub packet: GroupPacket,
    /// Of the neighbour that sent it; free again as soon as this is dropped.
    _place: Place,
}

/// Actors that take datagrams take them from the carrier as well as from anybody else.
macro_rules! takes_datagrams {
    ($($actor:ty),*) => {$(
        impl Handler<Carried> for $actor {
            type Result = ();

            fn handle(&mut self, Carried { packet, .. }: Carried, ctx: &mut <Self as Actor>::Context) {
                Handler::<GroupPacket>::handle(self, packet, ctx);
            }
        }
    )*};
}

takes_datagrams!(GroupActor, MembershipActor, RouterActor, TopologyActor);

#[derive(Clone)]
struct Port {
    to: Recipient<Carried>,
    places: Rc<Places>,
}

/// Sends datagrams to neighbours, and knows to whom those go that arrive. Shared by all actors of a node.
#[derive(Default)]
pub struct Carrier {
    table: RefCell<Rc<PeerTable>>,
    ports: RefCell<BTreeMap<Concern, Port>>,
}

impl Carrier {
    pub(super) fn set_table(&self, table: Rc<PeerTable>) {
        *self.table.borrow_mut() = table;
    }

    /// Sets who gets the datagrams of these concerns. Without anybody they are dropped.
    pub fn set_port(&self, concerns: &[Concern], to: Recipient<Carried>) {
        let port = Port { to, places: Rc::new(Places::new(DATAGRAM_PLACES)) };
        self.ports.borrow_mut().extend(concerns.iter().map(|concern| (*concern, port.clone())));
    }

    /// Sends a datagram, once: it waits for room on a link to the peer for at most `worth`.
    ///
    /// # Errors
    /// [`DatagramError`]; nothing of it is kept then.
    pub fn send(
        &self,
        to: &PeerId,
        concern: Concern,
        class: MessageClass,
        payload: Bytes,
        worth: Duration,
    ) -> Result<(), DatagramError> {
        let ledger = self.table.borrow().ledger(to).ok_or(DatagramError::NoSession);
        let reached = |standing: Option<Neighbour>| {
            standing.is_some_and(|now| now.direct && now.answers || concern != Concern::Mesh)
        };
        let ledger =
            ledger.and_then(|ledger| if reached(ledger.standing()) { Ok(ledger) } else { Err(DatagramError::NoLink) });
        let now = clock::now();
        let datagram = Datagram { concern: concern.code(), payload, expires: now + worth };
        let sent = ledger.and_then(|ledger| {
            let wake = ledger.outbox().push_datagram(now, class, datagram)?;
            if wake {
                ledger.wake();
            }
            Ok(())
        });
        let fate = if sent.is_ok() { "sent" } else { "refused" };
        metrics::counter!("bowline_datagrams_total", "concern" => concern.as_str(), "fate" => fate).increment(1);
        sent
    }

    /// Every peer that is reached at the moment, and how.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.table.borrow().standings()
    }

    /// Peers with which there is a session, and no link to carry it.
    pub fn silent(&self) -> Vec<PeerId> {
        self.table.borrow().silent()
    }

    /// Which of the sessions with a peer there is now.
    pub(super) fn incarnation(&self, peer: &PeerId) -> Option<Incarnation> {
        self.table.borrow().ledger(peer).map(|ledger| ledger.incarnation())
    }

    /// Brings a datagram to whose concern it is. What nobody here knows or has room for is dropped, and what a neighbour sends beyond its
    /// share of the room.
    pub(crate) fn arrived(&self, from: PeerId, concern: u8, payload: &Bytes) {
        let Some(concern) = Concern::from_code(concern) else { return };
        // Not by a clone of the address: each has room for one message more, however full the mailbox is.
        let ports = self.ports.borrow();
        let port = ports.get(&concern).and_then(|port| Some((&port.to, port.places.take(from)?)));
        let taken = port.is_some_and(|(to, place)| {
            let packet = GroupPacket { from, concern, payload: Bytes::copy_from_slice(payload) };
            to.try_send(Carried { packet, _place: place }).is_ok()
        });
        let fate = if taken { "received" } else { "dropped" };
        metrics::counter!("bowline_datagrams_total", "concern" => concern.as_str(), "fate" => fate).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use actix::Context;

    use super::*;

    /// An actor with room for four messages that counts what it gets.
    struct Busy(Rc<RefCell<usize>>);

    impl Actor for Busy {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.set_mailbox_capacity(4);
        }
    }

    impl Handler<Carried> for Busy {
        type Result = ();

        fn handle(&mut self, _: Carried, _: &mut Self::Context) {
            *self.0.borrow_mut() += 1;
        }
    }

    #[actix::test]
    async fn a_mailbox_that_is_full_takes_no_more_datagrams() {
        let handled = Rc::default();
        let address = Busy(Rc::clone(&handled)).start();
        tokio::task::yield_now().await;
        let carrier = Carrier::default();
        carrier.set_port(&[Concern::Mesh], address.clone().recipient());
        assert!(address.connected());
        // Nothing is handled between these: the actor has no turn.
        for _ in 0..100 {
            carrier.arrived(PeerId::from_bytes([1; 32]), Concern::Mesh.code(), &Bytes::from_static(b"seen"));
        }
        while address.connected() && *handled.borrow() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        assert!((4..=5).contains(&*handled.borrow()), "{} of 100 with room for 4 and one beyond it", handled.borrow());
    }
}
