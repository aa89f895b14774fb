//! Acting on records that arrived.

use std::time::{Duration, Instant};

use bowline_messages::config::SessionConfig;
use bowline_messages::event::EventKind;
use bowline_messages::link::{LinkFailure, LinkState, LinkStep};
use bowline_messages::wire::frame::{LinkDownCode, MessageFrame};
use bowline_messages::wire::packet::next_packet;
use bowline_messages::wire::{Ack, Frame, FrameError, FrameReader, PacketType, Refusal, SignedAddresses};
use bowline_messages::{Incarnation, LinkId};
use bytes::{Bytes, BytesMut};

use super::inbound::InboundError;
use super::machine::{Output, Parts, Session};
use super::outbox::FalseDelivery;
use super::path::RecordItem;
use super::room;
use super::trust::Behaviour;

/// Records have lower numbers than this: they must fit a variable-length integer (RFC 9000 §16).
const RECORD_NUMBER_END: u64 = 1 << 61;

/// A record acknowledges so many links at most: an honest one its own and those that are failing. Each costs a look at all that is
/// remembered of a link.
const ACKS_MAX: usize = 64;

/// Why a link is given up for what an authentic record says.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Inbound(#[from] InboundError),
    #[error(transparent)]
    Delivery(#[from] FalseDelivery),
    #[error("a fragment of a message beyond 4 GiB")]
    FragmentSize,
    #[error("a life of the peer that is over")]
    PastLife,
    #[error("a frame that a record has once at most came again in it")]
    Repeated,
    #[error("more than {ACKS_MAX} acknowledgements in a record")]
    Acknowledgements,
    #[error("more than {0} records in a second that bring nothing")]
    IdleRecords(u64),
}

/// What the frames of a record amount to.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    /// It wants an acknowledgement.
    eliciting: bool,
    /// It brought a message, or news of what was sent.
    useful: bool,
}

impl Violation {
    /// What it says about the peer: nothing, where an honest program may do it that is configured otherwise or was restored from an
    /// earlier state.
    const fn behaviour(&self) -> Option<Behaviour> {
        match self {
            Self::Frame(_)
            | Self::FragmentSize
            | Self::Repeated
            | Self::Acknowledgements
            | Self::Inbound(InboundError::Fragments | InboundError::Sequence | InboundError::Skip) => {
                Some(Behaviour::BrokeProtocol)
            }
            // It was told the window, and no honest program sends past it.
            Self::Inbound(InboundError::Window) | Self::IdleRecords(_) => Some(Behaviour::Flooded),
            Self::Inbound(InboundError::MessageSize(_) | InboundError::Channels)
            | Self::Delivery(_)
            | Self::PastLife => None,
        }
    }
}

impl Session {
    /// Whole packets arrived on a link. What cannot be opened is counted and dropped; a peer that breaks the protocol inside an
    /// authentic record loses the link.
    pub fn on_arrived(&mut self, now: Instant, link: LinkId, mut data: BytesMut, parts: &mut Parts<'_>) {
        if let Some(path) = self.paths.get_mut(&link) {
            path.stats.bytes_received += data.len() as u64;
        }
        loop {
            match next_packet(&mut data) {
                Ok(Some(packet)) => self.on_packet(now, link, packet, parts),
                Ok(None) => break,
                Err(error) => {
                    self.on_violation(now, link, error.to_string());
                    break;
                }
            }
        }
        self.reroute(now, parts);
    }

    fn on_packet(&mut self, now: Instant, link: LinkId, packet: BytesMut, parts: &mut Parts<'_>) {
        let Some(keys) = parts.keys.get_mut(&link) else { return };
        let Some(path) = self.paths.get_mut(&link) else { return };
        // The responder learns the initiator's name from the last handshake message, so its refusal comes where a record was expected.
        // It is not authenticated: it counts only while nothing has shown that the peer let this side in.
        if !path.proven
            && packet.first() == Some(&PacketType::Refuse.byte())
            && let Some(Ok(refusal)) = packet.get(1..).map(Refusal::decode)
        {
            self.remove(now, link, LinkFailure::Refused(refusal), true);
            return;
        }
        // A number that could not be written back in an acknowledgement is no honest one.
        let opened = keys.opener.open(packet).ok().filter(|(number, _)| number.0 < RECORD_NUMBER_END);
        let Some((number, frames)) = opened else {
            path.stats.records_rejected += 1;
            return;
        };
        path.stats.records_received += 1;
        path.arrived_at = now;
        if keys.opener.previous_epoch().is_some() {
            path.old_key_until = keys.opener.age_previous(now, old_key_kept(&self.config));
        }
        let bytes = frames.len();
        let silent = path.suspicions > 1;
        if silent {
            self.on_heard_again(now);
        }
        let Some(path) = self.paths.get_mut(&link) else { return };
        if !path.proven {
            path.proven = true;
            self.on_proven(now, link, parts);
        }
        let taken = self.on_frames(now, link, frames, parts);
        let taken =
            taken.and_then(|taken| if taken.useful { Ok(taken) } else { self.on_idle_record(now).map(|()| taken) });
        let eliciting = match taken {
            Ok(taken) => taken.eliciting,
            Err(violation) => {
                self.outputs.extend(violation.behaviour().map(Output::Observed));
                return self.on_violation(now, link, violation.to_string());
            }
        };
        if let Some(path) = self.paths.get_mut(&link) {
            path.acks.on_record(now, number.0, bytes, eliciting, self.config.ack_delay);
        }
    }

    /// A record brought nothing. Windows do not bound such ones, so they are counted.
    fn on_idle_record(&mut self, now: Instant) -> Result<(), Violation> {
        const SECOND: Duration = Duration::from_secs(1);
        let most = self.config.peer_idle_records_per_second;
        let (began, count) =
            self.idle_records.filter(|(at, _)| now.saturating_duration_since(*at) < SECOND).unwrap_or((now, 0));
        self.idle_records = Some((began, count + 1));
        if most > 0 && count >= most { Err(Violation::IdleRecords(most)) } else { Ok(()) }
    }

    /// Acts on the frames of one record.
    fn on_frames(
        &mut self,
        now: Instant,
        link: LinkId,
        frames: Bytes,
        parts: &mut Parts<'_>,
    ) -> Result<Taken, Violation> {
        let mut reader = FrameReader::new(frames);
        let (mut eliciting, mut messages, mut news) = (false, false, false);
        // Each costs a signature's check or a new beginning, so a record has one.
        let (mut introduced, mut located, mut acks) = (false, false, 0);
        loop {
            while let Some(message) = reader.next_message() {
                messages = true;
                on_message(message, parts)?;
            }
            let Some(frame) = reader.next()? else { break };
            match frame {
                Frame::Message(message) => {
                    messages = true;
                    on_message(message, parts)?;
                }
                Frame::Fragment(f) => {
                    messages = true;
                    let (total, offset) = (u32::try_from(f.total), u32::try_from(f.offset));
                    let (Ok(total), Ok(offset)) = (total, offset) else {
                        return Err(Violation::FragmentSize);
                    };
                    let taken = parts.inbound.on_fragment(f.channel, f.sequence, f.class, total, offset, &f.payload);
                    taken?;
                }
                Frame::Skip { channel, from, until } => {
                    eliciting = true;
                    parts.inbound.on_skip(channel, from, until)?;
                }
                Frame::Delivered { channel, next, window } => {
                    eliciting = true;
                    news |= parts.outbox.on_delivered(channel, next, window)? > 0;
                }
                Frame::Ack(ack) => {
                    acks += 1;
                    if acks > ACKS_MAX {
                        return Err(Violation::Acknowledgements);
                    }
                    news |= self.on_ack(now, ack, parts);
                }
                Frame::Ping => eliciting = true,
                Frame::Addresses(addresses) => {
                    eliciting = true;
                    if std::mem::replace(&mut located, true) {
                        return Err(Violation::Repeated);
                    }
                    self.on_peer_addresses(*addresses);
                }
                Frame::LinkDown { link: dead, reason } => {
                    eliciting = true;
                    if reason == LinkDownCode::Closed {
                        // That is no death, and may be said on the link itself, as the last there is to say.
                        self.on_let_go(now, dead);
                    } else if dead != link {
                        // A link cannot announce its own death in good faith; whoever says so means another.
                        self.on_peer_report(now, dead, reason);
                    }
                }
                Frame::Session { incarnation } => {
                    if std::mem::replace(&mut introduced, true) {
                        return Err(Violation::Repeated);
                    }
                    self.on_session_frame(now, link, incarnation, parts)?;
                }
                Frame::Quarantined { channel, sequence } => {
                    eliciting = true;
                    parts.outbox.on_quarantined(channel, sequence);
                }
                Frame::Datagram { concern, payload } => {
                    (eliciting, news) = (true, true);
                    self.outputs.push_back(Output::Datagram(concern, payload));
                }
                Frame::AckFrequency { records, delay_us } => {
                    if let Some(path) = self.paths.get_mut(&link) {
                        path.acks.on_wish(now, records, Duration::from_micros(delay_us));
                    }
                }
                Frame::Close { code, text } => self.outputs.push_back(Output::ClosedByPeer(code, text)),
                Frame::Padding { .. } | Frame::Unknown { .. } => {}
            }
        }
        if messages {
            self.on_messages_from(now, link);
        }
        Ok(Taken { eliciting: eliciting || messages, useful: messages || news })
    }

    fn on_proven(&mut self, now: Instant, link: LinkId, parts: &mut Parts<'_>) {
        // First of all, even when it turns out to be a duplicate and is closed at once.
        self.outputs.push_back(Output::LinkProven(link));
        if let Some(path) = self.paths.get_mut(&link) {
            self.peer_limits = path.limits.take().map(|limits| *limits).or(self.peer_limits);
            if path.state == LinkState::Initializing && path.step(LinkStep::Connected).is_ok() {
                path.progress_at = now;
                path.probe_due = true;
            }
            self.on_recovered(now, link);
            let local = self.local;
            self.settle_twins(now, local, link, parts);
        }
    }

    /// The peer says which life of it speaks.
    fn on_session_frame(
        &mut self,
        now: Instant,
        link: LinkId,
        incarnation: Incarnation,
        parts: &mut Parts<'_>,
    ) -> Result<(), Violation> {
        let Some(limits) = self.peer_limits else { return Ok(()) };
        match self.peer_incarnation {
            Some(known) if incarnation == known => return Ok(()),
            Some(known) if incarnation < known => return Err(Violation::PastLife),
            Some(_) => {
                // What was in flight to the old life is not to be sent to the new one: its links are forgotten first.
                let old: Vec<_> = self.paths.keys().copied().filter(|id| *id != link).collect();
                for id in old {
                    self.remove(now, id, LinkFailure::ClosedHere("the peer started anew".into()), true);
                }
                if let Some(path) = self.paths.get_mut(&link) {
                    path.lose_all();
                }
                self.orphans.clear();
                self.hedges.clear();
                self.copies.clear();
                self.failover = None;
                self.peer_addresses_version = 0;
                parts.inbound.on_peer_restarted();
                let theirs = |id| parts.inbound.streams.is_theirs(id);
                let unknown = parts.outbox.on_peer_restarted(limits, theirs);
                let event = EventKind::PeerRestarted { peer: self.peer, incarnation, unknown };
                self.outputs.push_back(Output::Emit(event));
            }
            None => {
                parts.outbox.set_peer_limits(limits);
                self.outputs.push_back(Output::Emit(EventKind::SessionUp { peer: self.peer, incarnation }));
            }
        }
        self.peer_incarnation = Some(incarnation);
        self.outputs.push_back(Output::PeerKnown(incarnation));
        Ok(())
    }

    /// Says whether it acknowledged what was not acknowledged before.
    fn on_ack(&mut self, now: Instant, ack: Ack, parts: &mut Parts<'_>) -> bool {
        let Some(path) = self.paths.get_mut(&ack.link) else { return false };
        let mut outcome = room::acknowledged();
        let ranges = ack.ranges.map(|range| (*range.start(), *range.end()));
        path.on_ack(now, ranges, Duration::from_micros(ack.delay_us), &mut outcome);
        // What was called failing, or was longer than that takes at most, was an outage; what all links shared was the peer's pause.
        let shared = |late: Duration| self.all_silent_at.is_some_and(|at| at + late >= now);
        let outage = path.state == LinkState::Failing
            || outcome.late.is_some_and(|late| late > self.config.spare_patience || shared(late));
        if outcome.progress && !outage {
            path.patience.on_progress(now, outcome.late);
        }
        for item in &outcome.items {
            match item {
                RecordItem::Data(item) => {
                    parts.outbox.on_acknowledged(*item);
                }
                RecordItem::Delivered(channel, next) => parts.inbound.on_announced(*channel, *next),
                RecordItem::Addresses
                | RecordItem::LinkDown(_)
                | RecordItem::Quarantined(..)
                | RecordItem::Datagram => {}
            }
        }
        if outcome.measured {
            self.watch_round_trip(now, ack.link);
            self.shift_round_trip(now, ack.link);
        }
        self.orphans.append(&mut outcome.left_out);
        if outcome.news && !outcome.progress {
            self.send_overtaken_again(now, ack.link);
        }
        let news = outcome.news;
        if news {
            self.on_progress(now, ack.link, outcome.data);
        }
        room::give_acknowledged(outcome);
        news
    }

    fn on_peer_addresses(&mut self, addresses: SignedAddresses) {
        if addresses.peer == self.peer && addresses.version > self.peer_addresses_version {
            self.peer_addresses_version = addresses.version;
            self.outputs.push_back(Output::PeerAddresses(addresses));
        }
    }

    fn on_violation(&mut self, now: Instant, link: LinkId, what: String) {
        self.remove(now, link, LinkFailure::Protocol(what), true);
    }
}

/// How long the key of an epoch is kept after a record of the next one came out of order: records that are on their way for longer are
/// lost, because the sender has given the link up.
pub(super) fn old_key_kept(config: &SessionConfig) -> Duration {
    config.last_link_timeout.max(config.failover_timeout)
}

#[inline]
fn on_message(message: MessageFrame, parts: &mut Parts<'_>) -> Result<(), InboundError> {
    let MessageFrame { class, channel, sequence, payload } = message;
    parts.inbound.on_message(channel, sequence, class, payload)
}
