//! The actor of membership: packets, time and what the node knows of its sessions on one side, the machine on the other.
//!
//! To be a permanent child of a supervisor that is given up when it fails for good: nothing that happens here ends a session. A restart keeps
//! [`Kept`], and with it the machine: a new one in the same life would number its packets from the beginning, and nobody would listen.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Handler, Message};
use bowline_messages::config::MembershipConfig;
use bowline_messages::membership::{MemberInfo, MembershipEvent};
use bowline_messages::network::{ExcludedChanged, GroupPacket};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;

use super::wire::{SIGNATURE_BYTES, unsigned_to_direct};
use super::{Keys, Membership, MembershipOutput};
use crate::clock;
use crate::pump::{self, Pump, Pumped};
use crate::session::identity::{Identity, SigningContext};
use crate::supervision::Context;

/// Whom this node takes in as a member.
pub type Admits = Rc<dyn Fn(&PeerId) -> bool>;

/// The key of this node, for packets and statements of the membership.
struct NodeKeys {
    identity: Arc<Identity>,
    admits: Admits,
}

impl Keys for NodeKeys {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.identity.sign(SigningContext::Membership, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Identity::verify(peer, SigningContext::Membership, bytes, signature).is_ok()
    }

    fn admits(&self, peer: &PeerId) -> bool {
        (self.admits)(peer)
    }
}

/// What outlives the actor.
pub struct Kept {
    machine: RefCell<Membership>,
    /// Peers with which there was a session when that was told last.
    neighbours: RefCell<BTreeSet<PeerId>>,
}

impl Kept {
    /// A membership that knows nobody, in this life of this node: one for each life. Everything random in it comes from the seed.
    pub fn new(
        now: Instant,
        config: MembershipConfig,
        identity: Arc<Identity>,
        life: Incarnation,
        admits: Admits,
        seed: u64,
    ) -> Self {
        let me = identity.peer_id();
        let keys = Box::new(NodeKeys { identity, admits });
        let machine = RefCell::new(Membership::new(now, config, me, life, keys, seed));
        Self { machine, neighbours: RefCell::default() }
    }

    /// Whether somebody is a member, as far as this node knows. Not from within what [`MembershipParts`] has told.
    pub fn is_member(&self, peer: &PeerId) -> bool {
        self.machine.try_borrow().is_ok_and(|machine| machine.is_member(peer))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// A packet that is to be brought to a peer.
#[derive(Debug)]
pub struct Outgoing<'a> {
    unsigned: Bytes,
    kept: &'a Kept,
}

impl Outgoing<'_> {
    /// As it goes over a session with its receiver, which stands for who wrote it.
    pub fn direct(&self) -> Bytes {
        unsigned_to_direct(&self.unsigned).unwrap_or_else(|| self.whole())
    }

    /// As it goes through others: signed, which takes time.
    pub fn whole(&self) -> Bytes {
        self.kept.machine.borrow().whole(&self.unsigned)
    }
}

/// Brings a packet to a peer. How many bytes of it went: none when there was no way.
pub type Carry = dyn Fn(PeerId, &Outgoing<'_>) -> usize;

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub struct MembershipParts {
    /// What outlives it.
    pub kept: Rc<Kept>,
    /// Brings a packet to a peer, over a session or through others; it may be lost, and never waits.
    pub carry: Rc<Carry>,
    /// Is told what happened.
    pub events: Rc<dyn Fn(MembershipEvent)>,
}

/// How sessions stand now, all of them, from the node. Who is reached that was not is joined. Who was reached and is silent does not answer; who
/// was reached and is neither has no session any more: that was ended in good order, and says nothing against it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Message)]
#[rtype(result = "()")]
pub struct Neighbours {
    /// Peers with which there is a session that has a link.
    pub reached: Vec<PeerId>,
    /// Peers with which there is a session that has none.
    pub silent: Vec<PeerId>,
}

/// Joins the group of a peer, which has to be reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct JoinGroup(pub PeerId);

/// Says good-bye: this node belongs to no group until its next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LeaveGroup;

/// From whoever watches this node itself: it was starved or stopped, and should trust itself less for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Starved;

/// Who is known, by name, and how they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Vec<MemberInfo>")]
pub struct WhichMembers;

/// The actor of membership.
pub struct MembershipActor {
    parts: MembershipParts,
    pump: Pump,
}

impl MembershipActor {
    /// An actor that takes up what an earlier life left.
    pub fn new(parts: MembershipParts) -> Self {
        Self { parts, pump: Pump::new() }
    }

    /// Lets the machine work and carries out what it wants.
    fn with_machine(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(Instant, &mut Membership)) {
        let kept = Rc::clone(&self.parts.kept);
        work(clock::now(), &mut kept.machine.borrow_mut());
        loop {
            // Not held while it is carried out: whoever is told may ask something.
            let output = kept.machine.borrow_mut().poll_output();
            match output {
                Some(MembershipOutput::Send { to, unsigned }) => {
                    let bytes = (self.parts.carry)(to, &Outgoing { unsigned, kept: &kept });
                    metrics::counter!("bowline_membership_bytes_sent_total").increment(bytes as u64);
                }
                Some(MembershipOutput::Emit(event)) => {
                    metrics::counter!("bowline_membership_events_total", "event" => name(&event)).increment(1);
                    (self.parts.events)(event);
                }
                None => break,
            }
        }
        let machine = kept.machine.borrow();
        show(machine.active(), machine.doubt());
        let deadline = machine.deadline();
        drop(machine);
        pump::arm(self, ctx, deadline);
    }
}

impl Drop for MembershipActor {
    /// However it ends, by a panic or since the network is given up, too: figures do not show for ever what was known last.
    fn drop(&mut self) {
        show(0, 0);
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.with_machine(ctx, |_, _| ());
    }
}

impl Pumped for MembershipActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.with_machine(ctx, |now, machine| machine.on_timeout(now));
    }
}

impl Handler<GroupPacket> for MembershipActor {
    type Result = ();

    fn handle(&mut self, packet: GroupPacket, ctx: &mut Self::Context) {
        self.with_machine(ctx, |now, machine| {
            if let Err(refusal) = machine.on_direct(now, packet.from, &packet.payload) {
                metrics::counter!("bowline_membership_refused_total", "reason" => refusal.to_string()).increment(1);
            }
        });
    }
}

impl Handler<Neighbours> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Neighbours { reached, silent }: Neighbours, ctx: &mut Self::Context) {
        let now_there: BTreeSet<PeerId> = reached.into_iter().collect();
        let before = self.parts.kept.neighbours.replace(now_there.clone());
        self.with_machine(ctx, |now, machine| {
            for peer in now_there.difference(&before) {
                machine.join(now, *peer);
            }
            for peer in before.difference(&now_there) {
                machine.forget_seed(peer);
                if silent.contains(peer) {
                    machine.on_unreachable(now, *peer);
                }
            }
        });
    }
}

impl Handler<ExcludedChanged> for MembershipActor {
    type Result = ();

    /// Who may be a member is asked of the trust, which knows more than the message: those who are not listed any more, too.
    fn handle(&mut self, _: ExcludedChanged, ctx: &mut Self::Context) {
        self.with_machine(ctx, |now, machine| machine.on_admission_changed(now));
    }
}

impl Handler<JoinGroup> for MembershipActor {
    type Result = ();

    fn handle(&mut self, JoinGroup(peer): JoinGroup, ctx: &mut Self::Context) {
        self.with_machine(ctx, |now, machine| machine.join(now, peer));
    }
}

impl Handler<LeaveGroup> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _: LeaveGroup, ctx: &mut Self::Context) {
        self.with_machine(ctx, |now, machine| machine.leave(now));
    }
}

impl Handler<Starved> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _: Starved, ctx: &mut Self::Context) {
        self.with_machine(ctx, |_, machine| machine.on_doubt());
    }
}

impl Handler<WhichMembers> for MembershipActor {
    type Result = Vec<MemberInfo>;

    fn handle(&mut self, _: WhichMembers, _: &mut Self::Context) -> Self::Result {
        self.parts.kept.machine.borrow().members(clock::now()).collect()
    }
}

/// How many members there are, and how many times slower this node is since it doubts itself: 1, or 0 when there is no membership.
fn show(members: usize, doubt: u32) {
    metrics::gauge!("bowline_membership_members").set(f64::from(u32::try_from(members).unwrap_or(u32::MAX)));
    metrics::gauge!("bowline_membership_doubt").set(f64::from(doubt));
}

/// The name of an event in metrics.
const fn name(event: &MembershipEvent) -> &'static str {
    match event {
        MembershipEvent::Joined { .. } => "joined",
        MembershipEvent::Suspected { .. } => "suspected",
        MembershipEvent::Cleared { .. } => "cleared",
        MembershipEvent::Down { .. } => "down",
        MembershipEvent::Left { .. } => "left",
        MembershipEvent::Returned { .. } => "returned",
        MembershipEvent::Offended { .. } => "offended",
        MembershipEvent::ShutOut { .. } => "shut_out",
        MembershipEvent::Evicted { .. } => "evicted",
        MembershipEvent::Excluded { .. } => "excluded",
        MembershipEvent::Superseded { .. } => "superseded",
        #[allow(clippy::wildcard_enum_match_arm, reason = "the enum may grow in its crate")]
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use actix::Addr;
    use bowline_messages::membership::MemberState;
    use bowline_messages::network::Concern;

    use super::*;
    use crate::topology::actor::tests::Shown;

    type Addresses = Rc<RefCell<Vec<(PeerId, Addr<MembershipActor>)>>>;
    type Told = Rc<RefCell<Vec<(PeerId, MembershipEvent)>>>;

    /// So many actors with real keys; those whose address is in the list can reach each other.
    fn start(count: u8) -> (Addresses, Told, Vec<MembershipParts>) {
        let (addresses, told) = (Addresses::default(), Told::default());
        let mut all = Vec::new();
        for n in 0..count {
            let identity = Arc::new(Identity::from_seed(&[n + 1; 32]));
            let me = identity.peer_id();
            let config = MembershipConfig::default();
            let kept = Kept::new(clock::now(), config, identity, Incarnation(1), Rc::new(|_| true), n.into());
            let (others, noted) = (Rc::clone(&addresses), Rc::clone(&told));
            let parts = MembershipParts {
                kept: Rc::new(kept),
                carry: Rc::new(move |to, packet| {
                    let address =
                        |of| others.borrow().iter().find(|(peer, _)| *peer == of).map(|(_, address)| address.clone());
                    let (Some(_), Some(address)) = (address(me), address(to)) else { return 0 };
                    {
                        // Every other pair has a session.
                        let near = (me.as_bytes()[0] ^ to.as_bytes()[0]) & 1 == 0;
                        let (from, payload) = if near { (me, packet.direct()) } else { (to, packet.whole()) };
                        let bytes = payload.len();
                        address.do_send(GroupPacket { from, concern: Concern::Membership, payload });
                        bytes
                    }
                }),
                events: Rc::new(move |event| noted.borrow_mut().push((me, event))),
            };
            addresses.borrow_mut().push((me, Context::run(256, MembershipActor::new(parts.clone()))));
            all.push(parts);
        }
        (addresses, told, all)
    }

    fn reached(peer: PeerId) -> Neighbours {
        Neighbours { reached: vec![peer], ..Neighbours::default() }
    }

    async fn members(address: &Addr<MembershipActor>, state: MemberState) -> usize {
        address.send(WhichMembers).await.unwrap().iter().filter(|member| member.state == state).count()
    }

    async fn until(address: &Addr<MembershipActor>, state: MemberState, count: usize, most: Duration) {
        let late = clock::now() + most;
        while members(address, state).await != count {
            assert!(clock::now() < late, "not {count} {state}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    #[actix::test]
    async fn signed_with_real_keys_a_group_forms_and_loses_a_member() {
        tokio::time::pause();
        let (addresses, told, _) = start(4);
        let all = addresses.borrow().clone();
        for (_, address) in &all[1..] {
            address.send(reached(all[0].0)).await.unwrap();
        }
        for (_, address) in &all {
            until(address, MemberState::Alive, 3, Duration::from_secs(20)).await;
        }
        let (gone, _) = addresses.borrow_mut().remove(3);
        for (_, address) in &all[..3] {
            until(address, MemberState::Down, 1, Duration::from_secs(30)).await;
        }
        let down = |event: &MembershipEvent| matches!(event, MembershipEvent::Down { peer, .. } if *peer == gone);
        assert_eq!(told.borrow().iter().filter(|(by, event)| *by != gone && down(event)).count(), 3);
    }

    #[actix::test]
    async fn a_session_that_lost_its_links_is_a_question_without_an_answer_and_one_that_was_ended_is_none() {
        tokio::time::pause();
        let (addresses, told, _) = start(3);
        let all = addresses.borrow().clone();
        for (_, address) in &all[1..] {
            address.send(reached(all[0].0)).await.unwrap();
        }
        for (_, address) in &all {
            until(address, MemberState::Alive, 2, Duration::from_secs(20)).await;
        }
        addresses.borrow_mut().remove(0);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        // The one ended its session, the other one lost its link.
        all[2].1.send(Neighbours::default()).await.unwrap();
        all[1].1.send(Neighbours { silent: vec![all[0].0], ..Neighbours::default() }).await.unwrap();
        let suspected: Vec<PeerId> = told
            .borrow()
            .iter()
            .filter(|(_, event)| matches!(event, MembershipEvent::Suspected { peer, .. } if *peer == all[0].0))
            .map(|(by, _)| *by)
            .collect();
        assert_eq!(suspected, [all[1].0]);
    }

    #[actix::test]
    async fn a_restarted_actor_goes_on_with_what_was_known() {
        tokio::time::pause();
        let (addresses, _, parts) = start(2);
        let all = addresses.borrow().clone();
        all[1].1.send(JoinGroup(all[0].0)).await.unwrap();
        until(&all[0].1, MemberState::Alive, 1, Duration::from_secs(20)).await;
        let again = Context::run(256, MembershipActor::new(parts[1].clone()));
        addresses.borrow_mut()[1].1 = again.clone();
        assert_eq!(members(&again, MemberState::Alive).await, 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(members(&all[0].1, MemberState::Alive).await, 1);
        again.send(LeaveGroup).await.unwrap();
        until(&all[0].1, MemberState::Left, 1, Duration::from_secs(2)).await;
    }

    #[actix::test]
    async fn metrics_do_not_go_on_showing_members_when_the_network_was_given_up() {
        tokio::time::pause();
        let shown = Shown::default();
        let _guard = metrics::set_default_local_recorder(&shown);
        let (addresses, _, parts) = start(2);
        let all = addresses.borrow().clone();
        all[1].1.send(JoinGroup(all[0].0)).await.unwrap();
        until(&all[0].1, MemberState::Alive, 1, Duration::from_secs(20)).await;
        let seen = || ["bowline_membership_members", "bowline_membership_doubt"].map(|name| shown.gauge(name));
        assert_eq!(seen(), [Some(1.0); 2]);
        drop(MembershipActor::new(parts[0].clone()));
        assert_eq!(seen(), [Some(0.0); 2]);
    }

    #[actix::test]
    async fn bytes_are_counted_as_they_went() {
        let shown = Shown::default();
        let _guard = metrics::set_default_local_recorder(&shown);
        let (_, _, parts) = start(2);
        let went = Rc::new(RefCell::new(Vec::new()));
        for (n, peer) in [(1, [8; 32]), (2, [9; 32])] {
            let noted = Rc::clone(&went);
            // To the one over a session, to the other through others.
            let carry = move |_: PeerId, packet: &Outgoing<'_>| {
                let bytes = if n == 1 { packet.direct().len() } else { packet.whole().len() };
                noted.borrow_mut().push(bytes);
                bytes
            };
            let parts = MembershipParts { carry: Rc::new(carry), ..parts[0].clone() };
            let address = Context::run(16, MembershipActor::new(parts));
            address.send(JoinGroup(PeerId::from_bytes(peer))).await.unwrap();
            // After each of the two: what is too many for the one is too few for the other.
            let sum = went.borrow().iter().sum::<usize>() as u64;
            assert_eq!(shown.counter("bowline_membership_bytes_sent_total"), Some(sum));
        }
        let [direct, whole] = went.borrow()[..] else { panic!("{went:?}") };
        assert!(whole >= direct + 2 * 32 + SIGNATURE_BYTES, "{direct} {whole}");
    }
}
