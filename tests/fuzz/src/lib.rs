//! Two nodes that know each other, for the targets that need a handshake.

use std::sync::Arc;
use std::time::Instant;

use bowline_actors::session::handshake::{
    Admission, Entropy, Established, HandshakeConfig, Initiator, InitiatorStep, Responder, ResponderStep, ResumeTicket,
};
use bowline_actors::session::identity::Identity;
use bowline_actors::session::seal::RotationLimits;
use bowline_messages::wire::packet::next_packet;
use bowline_messages::wire::{Features, HelloParameters, OfferedVersions, Refusal, TicketId};
use bowline_messages::{Incarnation, LinkId, PeerId};
use bytes::{Bytes, BytesMut};

/// One node.
pub struct Node {
    /// Its key.
    pub identity: Arc<Identity>,
    /// What it brings to handshakes.
    pub config: Arc<HandshakeConfig>,
    /// The ticket it knows.
    pub ticket: Option<ResumeTicket>,
}

impl Admission for Node {
    fn ticket(&mut self, id: &TicketId) -> Option<ResumeTicket> {
        self.ticket.clone().filter(|ticket| ticket.id == *id)
    }

    fn admit(&mut self, _: &PeerId) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Node {
    /// A node with this seed.
    pub fn new(seed: u8) -> Self {
        let parameters = HelloParameters {
            features: Features(0),
            incarnation: Incarnation(1),
            channel_window: 1 << 20,
            message_bytes_max: 1 << 20,
            ack_delay_max_us: 5_000,
            channels_max: 256,
        };
        let versions = OfferedVersions::ours();
        let config = HandshakeConfig { versions, parameters, rotation: RotationLimits::default() };
        Self { identity: Arc::new(Identity::from_seed(&[seed; 32])), config: Arc::new(config), ticket: None }
    }

    /// Begins a full handshake, or an attachment where there is a ticket.
    pub fn dial(&self, other: &Self) -> (Initiator, BytesMut) {
        let peer = other.identity.peer_id();
        let link = LinkId(if self.identity.peer_id() < peer { 2 } else { 3 });
        let (identity, config) = (self.identity.clone(), self.config.clone());
        let entropy = Entropy::system().expect("randomness");
        let (initiator, first) = match self.ticket.clone() {
            Some(ticket) => Initiator::attach(identity, config, ticket, link, entropy),
            None => Initiator::full(identity, config, peer, link, entropy),
        }
        .expect("two different nodes");
        (initiator, packet(&first))
    }

    /// Waits for a handshake.
    pub fn accept(&self) -> Responder {
        Responder::new(self.identity.clone(), self.config.clone(), Entropy::system().expect("randomness"))
    }
}

/// The packet in a frame.
pub fn packet(framed: &Bytes) -> BytesMut {
    next_packet(&mut BytesMut::from(&framed[..])).expect("ours").expect("whole")
}

/// Two nodes, both ends of a link between them, and the packets that made it. Both know its ticket.
pub fn linked() -> (Node, Node, Established, Established, Vec<BytesMut>) {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let now = Instant::now();
    let (mut initiator, hello) = a.dial(&b);
    let mut responder = b.accept();
    let Ok(ResponderStep::Send(answer)) = responder.on_packet(now, &hello, &mut b) else { panic!("HELLO") };
    let answer = packet(&answer);
    let Ok(InitiatorStep::Done { send: Some(finish), established: ours }) = initiator.on_packet(now, &answer) else {
        panic!("ANSWER")
    };
    let finish = packet(&finish);
    let Ok(ResponderStep::Done { established: theirs, .. }) = responder.on_packet(now, &finish, &mut b) else {
        panic!("FINISH")
    };
    a.ticket = Some(ours.ticket.clone());
    b.ticket = Some(theirs.ticket.clone());
    (a, b, *ours, *theirs, vec![hello, answer, finish])
}
