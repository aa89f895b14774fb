//! The SWIM protocol of the `foca` crate, as this node uses it: whom to ask, whom to ask for help, who is a member.
//!
//! What it would tell others by itself is left out: members learn from signed statements only, which [`super::machine`] passes on.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bowline_messages::config::MembershipConfig;
use foca::{
    Config, Foca, Header, Member, Message, NoCustomBroadcast, Notification, PostcardCodec, Runtime, State, Timer,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::wire::Node;

/// What the protocol wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// A message is to be sent.
    Send(Header<Node>),
    /// A timer is to be set.
    Timer(Timer<Node>, Duration),
    /// A member that was asked did not answer, neither to this node nor to its helpers. The number is the member's when it was asked.
    NoAnswer(Node, u16),
    /// A member is there.
    Up(Node),
    /// A member is not there any more.
    Down(Node),
    /// A member has a new name.
    Renamed(Node, Node),
    /// This node was excluded and renewed its membership.
    Renewed(Node),
}

/// A message that makes no sense to the protocol. The sender's fault; at worst its sender counts as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message that makes no sense")]
pub struct Senseless;

/// The protocol.
pub struct Swim {
    foca: Foca<Node, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>,
    buffer: Vec<u8>,
}

impl Swim {
    /// A protocol that knows nobody.
    pub fn new(node: Node, config: &MembershipConfig, seed: u64) -> Self {
        let some = |number: usize| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        let config = Config {
            probe_period: config.probe_interval,
            probe_rtt: config.probe_timeout,
            num_indirect_probes: some(config.helpers),
            // Its own updates are not sent, so they are to be forgotten as soon as possible.
            max_transmissions: NonZeroU8::MIN,
            suspect_to_down_after: config.probe_interval,
            remove_down_after: None,
            max_packet_size: some(config.packet_bytes),
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: None,
        };
        let foca = Foca::new(node, config, ChaCha8Rng::seed_from_u64(seed), PostcardCodec);
        Self { foca, buffer: Vec::new() }
    }

    /// This node's name at present.
    pub const fn node(&self) -> &Node {
        self.foca.identity()
    }

    /// Members it knows of, excluded ones too: name, number, state.
    pub fn members(&self) -> impl Iterator<Item = &Member<Node>> {
        self.foca.iter_membership_state()
    }

    /// A message came.
    ///
    /// # Errors
    /// [`Senseless`].
    pub fn on_message(&mut self, header: &Header<Node>) -> Result<Vec<Want>, Senseless> {
        let mut wants = Wants::default();
        self.buffer.clear();
        let encoded = postcard::to_extend(header, std::mem::take(&mut self.buffer)).map_err(|_| Senseless)?;
        let handled = self.foca.handle_data(&encoded, &mut wants);
        self.buffer = encoded;
        handled.map(|()| wants.0).map_err(|_| Senseless)
    }

    /// A timer is due.
    pub fn on_timer(&mut self, timer: Timer<Node>) -> Vec<Want> {
        let mut wants = Wants::default();
        // A probe cycle that was cut short, or one without members, begins anew: the protocol says so and goes on.
        let _ = self.foca.handle_timer(timer, &mut wants);
        wants.0
    }

    /// Something is known about a member.
    pub fn learn(&mut self, node: Node, number: u16, state: State) -> Vec<Want> {
        let mut wants = Wants::default();
        // The only errors are those of encoding, which does not fail.
        let _ = self.foca.apply_many(std::iter::once(Member::new(node, number, state)), false, &mut wants);
        wants.0
    }

    /// Begins to ask members again after the membership was renewed.
    pub fn go_on(&mut self) -> Vec<Want> {
        let mut wants = Wants::default();
        let _ = self.foca.apply_many(std::iter::empty(), false, &mut wants);
        wants.0
    }

    /// A member that is not there any more is forgotten.
    pub fn forget(&mut self, node: Node) {
        let _ = self.foca.handle_timer(Timer::RemoveDown(node), &mut Wants::default());
    }

    /// Asks somebody to take this node in, and for members.
    pub fn announce(&mut self, to: Node) -> Vec<Want> {
        let mut wants = Wants::default();
        let _ = self.foca.announce(to, &mut wants);
        wants.0
    }

    /// Ends it.
    pub fn leave(&mut self) {
        let _ = self.foca.leave_cluster(&mut Wants::default());
    }
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim").field("node", self.node()).field("members", &self.foca.num_members()).finish()
    }
}

/// Whether somebody is asked by a message whether it is there.
pub const fn probe_number(message: &Message<Node>) -> Option<u8> {
    match message {
        Message::Ping(number) => Some(*number),
        Message::Ack(_)
        | Message::PingReq { .. }
        | Message::IndirectPing { .. }
        | Message::IndirectAck { .. }
        | Message::ForwardedAck { .. }
        | Message::Announce
        | Message::Feed
        | Message::Gossip
        | Message::Broadcast
        | Message::TurnUndead => None,
    }
}

/// Collects what the protocol wants.
#[derive(Default)]
struct Wants(Vec<Want>);

impl Runtime<Node> for Wants {
    fn notify(&mut self, notification: Notification<'_, Node>) {
        match notification {
            Notification::MemberUp(node) => self.0.push(Want::Up(*node)),
            Notification::MemberDown(node) => self.0.push(Want::Down(*node)),
            Notification::Rename(from, to) => self.0.push(Want::Renamed(*from, *to)),
            Notification::Rejoin(node) => self.0.push(Want::Renewed(*node)),
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, _: Node, data: &[u8]) {
        // It was encoded a moment ago.
        if let Ok((header, _)) = postcard::take_from_bytes(data) {
            self.0.push(Want::Send(header));
        }
    }

    fn submit_after(&mut self, event: Timer<Node>, after: Duration) {
        match event {
            // When a suspect is excluded is decided elsewhere: this says that it did not answer.
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.0.push(Want::NoAnswer(member_id, incarnation));
            }
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => self.0.push(Want::Timer(event, after)),
        }
    }
}
