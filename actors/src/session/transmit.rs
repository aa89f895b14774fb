//! Building records: which frames go on which link next.

use std::iter;
use std::time::Instant;

use bowline_messages::link::{LinkFailure, LinkState};
use bowline_messages::network::Concern;
use bowline_messages::wire::frame::{self, LinkDownCode};
use bowline_messages::{LinkId, MessageClass};
use bytes::{Bytes, BytesMut};

use super::machine::{Parts, Session};
use super::outbox::{CLASSES, SentItem};
use super::path::{Path, RecordItem};
use super::room;
use super::seal::RECORD_FRAMES_BYTES_MAX;

/// Bytes of messages in one record at most.
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// The smallest such bound, on links so slow that a full record would hold others up.
const RECORD_BYTES_MIN: usize = 1200;
/// How long one record may occupy a link, in seconds.
const RECORD_SECONDS: f64 = 0.005;
/// Bytes that are handed to a link at once: one write of the transport's.
const TRANSMIT_BYTES: usize = 96 * 1024;
/// Announcements of delivery in one record at most.
const ANNOUNCEMENTS_MAX: usize = 32;

/// Sealed records for one lane of one link.
#[derive(Debug)]
pub struct Transmit {
    /// The link.
    pub link: LinkId,
    /// The lane.
    pub lane: u8,
    /// Whole packets, framed.
    pub data: Bytes,
}

/// What a record is to carry besides what is due anyway.
enum Fill {
    /// Messages of a class.
    Class(usize),
    /// Datagrams of a class.
    Datagrams(usize),
    /// Copies for this link.
    Copies,
    /// Nothing: acknowledgements, probes and the like.
    Control,
}

impl Session {
    /// The next bytes to hand to a link. Called until it gives nothing.
    pub fn poll_transmit(&mut self, now: Instant, parts: &mut Parts<'_>) -> Option<Transmit> {
        self.assign_hedges(now, parts);
        self.transmit_copies(now, parts)
            .or_else(|| self.transmit_data(now, parts))
            .or_else(|| self.transmit_control(now, parts))
            .or_else(|| self.transmit_close(now, parts))
    }

    /// Gives what is to be hedged to the best link other than the one it is on.
    fn assign_hedges(&mut self, now: Instant, parts: &Parts<'_>) {
        while let Some((suspect, item)) = self.hedges.pop_front() {
            let class = parts.outbox.class_of(item).unwrap_or(0);
            let candidates = self.gather_candidates(now, class);
            let wanted = self.wanted(MessageClass::from_index(class).unwrap_or_default(), None, None);
            let barred = |link| self.chooser.bars(wanted, link, &candidates);
            let others = candidates.iter().filter(|c| c.link != suspect && !c.suspected && !barred(c.link));
            let best = others.min_by(|a, b| a.delay.unwrap_or(1.0).total_cmp(&b.delay.unwrap_or(1.0)));
            self.copies.extend(best.map(|best| (best.link, item)));
            room::give_candidates(candidates);
        }
    }

    /// Copies of messages that are on another link already: hedges, and the second half of `Redundant`.
    fn transmit_copies(&mut self, now: Instant, parts: &mut Parts<'_>) -> Option<Transmit> {
        while let Some(&(link, item)) = self.copies.front() {
            let class = parts.outbox.class_of(item).unwrap_or(0);
            let Some(lane) = self.paths.get(&link).map(|path| path.lane(class)) else {
                self.copies.pop_front();
                continue;
            };
            let mut data = BytesMut::with_capacity(512);
            if self.build(now, link, lane, &Fill::Copies, &mut data, parts) {
                return Some(Transmit { link, lane, data: data.freeze() });
            }
            if self.copies.front() == Some(&(link, item)) {
                self.copies.pop_front();
            }
        }
        None
    }

    /// Messages of the class whose turn it is, on the link that its policy chooses.
    fn transmit_data(&mut self, now: Instant, parts: &mut Parts<'_>) -> Option<Transmit> {
        let mut blocked = [false; CLASSES];
        loop {
            let waits = |class: usize| parts.outbox.datagrams.has(class) || parts.outbox.has_ready(class);
            let class = self.scheduler.next(|class| !blocked[class] && waits(class));
            let Some(class) = class else {
                if !blocked.contains(&true) {
                    self.note_idle(parts);
                }
                return None;
            };
            blocked[class] = true;
            if let Some(transmit) = self.transmit_datagrams(now, class, parts) {
                return Some(transmit);
            }
            let own = parts.outbox.head_policy(class);
            let bytes = parts.outbox.head_bytes(class);
            let [Some(link), second] = self.choose(now, class, own, bytes).links else { continue };
            if let Some(transmit) = self.fill_link(now, link, class, second, parts) {
                self.on_busy(now);
                return Some(transmit);
            }
        }
    }

    /// Datagrams of a class, in one record. While messages of the class wait as well, both have as many bytes.
    fn transmit_datagrams(&mut self, now: Instant, class: usize, parts: &mut Parts<'_>) -> Option<Transmit> {
        if parts.outbox.datagrams.is_empty() {
            self.datagrams_ahead = 0;
            return None;
        }
        parts.outbox.datagrams.drop_expired(now);
        let head = parts.outbox.datagrams.head(class)?;
        let (bytes, through_peers) = (head.payload.len(), head.concern == Concern::Mesh.code());
        if self.datagrams_ahead > 0 && parts.outbox.has_ready(class) {
            return None;
        }
        let link =
            if through_peers { self.direct_link()? } else { self.choose(now, class, None, Some(bytes)).links[0]? };
        let path = self.paths.get(&link)?;
        if path.room(class, self.urgent_extra()) == 0 {
            return None;
        }
        let lane = path.lane(class);
        let mut data = BytesMut::with_capacity(bytes + 256);
        self.build(now, link, lane, &Fill::Datagrams(class), &mut data, parts).then(|| Transmit {
            link,
            lane,
            data: data.freeze(),
        })
    }

    /// Nothing waits: the next message wakes the session, and the links' rates are not to be judged by what follows.
    fn note_idle(&mut self, parts: &mut Parts<'_>) {
        parts.outbox.set_idle();
        for path in self.paths.values_mut() {
            path.window.on_app_limited();
        }
    }

    /// Fills records with messages of one class for one link, until the batch, the link or the class is exhausted.
    fn fill_link(
        &mut self,
        now: Instant,
        link: LinkId,
        class: usize,
        second: Option<LinkId>,
        parts: &mut Parts<'_>,
    ) -> Option<Transmit> {
        let extra = self.urgent_extra();
        let room_of = |session: &Self, link| session.paths.get(&link).map_or(0, |path| path.room(class, extra));
        let room = room_of(self, link);
        let lane = self.paths.get(&link)?.lane(class);
        if room == 0 {
            return None;
        }
        let policy = parts.outbox.head_policy(class);
        let (messages, queued) = parts.outbox.queued();
        let wanted = (queued + messages * 16).min(room).min(TRANSMIT_BYTES);
        let mut data = BytesMut::with_capacity(wanted + wanted / 64 + 256);
        while self.build(now, link, lane, &Fill::Class(class), &mut data, parts) {
            if let Some(second) = second.filter(|second| room_of(self, *second) > 0) {
                let copies = self.record_items.iter().filter_map(|item| match item {
                    RecordItem::Data(item) => Some((second, *item)),
                    RecordItem::Delivered(..)
                    | RecordItem::Addresses
                    | RecordItem::LinkDown(_)
                    | RecordItem::Quarantined(..)
                    | RecordItem::Datagram => None,
                });
                self.copies.extend(copies);
                break;
            }
            let same = parts.outbox.has_ready(class) && parts.outbox.head_policy(class) == policy;
            let turn = same && self.scheduler.next(|other| parts.outbox.has_ready(other)) == Some(class);
            if !turn || data.len() >= TRANSMIT_BYTES || room_of(self, link) == 0 {
                break;
            }
        }
        (!data.is_empty()).then(|| Transmit { link, lane, data: data.freeze() })
    }

    /// Acknowledgements that are due, probes, notices, addresses.
    fn transmit_control(&mut self, now: Instant, parts: &mut Parts<'_>) -> Option<Transmit> {
        let link = self.control_due(now, parts)?;
        let mut data = BytesMut::with_capacity(256);
        self.build(now, link, 0, &Fill::Control, &mut data, parts).then(|| Transmit {
            link,
            lane: 0,
            data: data.freeze(),
        })
    }

    /// A link on which something other than messages is due.
    fn control_due(&self, now: Instant, parts: &Parts<'_>) -> Option<LinkId> {
        // The peer has to prove itself on a link before it is told anything there.
        for (id, path) in self.paths.iter().filter(|(_, path)| path.state != LinkState::Initializing) {
            if path.probe_due || self.notices.get(id).is_some_and(|notices| !notices.is_empty()) {
                return Some(*id);
            }
            if path.ack_deadline().is_some_and(|at| at <= now) {
                return Some(self.ack_carrier(*id));
            }
        }
        let usable = || self.paths.values().filter(|path| path.state.is_usable());
        let first = usable().find(|path| path.suspicions == 0).or_else(|| usable().next())?;
        let acks_pending = usable().any(|path| path.acks.is_pending());
        let due = self.addresses_due || (parts.inbound.has_announcements() && !acks_pending);
        due.then_some(first.info.id)
    }

    /// The link over which the acknowledgements of another go: the same one, unless it is failing and there is a better one.
    fn ack_carrier(&self, id: LinkId) -> LinkId {
        if self.paths.get(&id).is_some_and(|path| path.state.is_usable()) {
            return id;
        }
        let mut better = self.paths.values().filter(|path| path.state.is_usable());
        better.next().map_or(id, |path| path.info.id)
    }

    /// Says on every link that the session ends.
    fn transmit_close(&mut self, now: Instant, parts: &mut Parts<'_>) -> Option<Transmit> {
        let (code, text) = self.close.clone()?;
        let open = |path: &Path| path.state != LinkState::Initializing && !self.close_said.contains(&path.info.id);
        let id = self.paths.values().find(|path| open(path))?.info.id;
        self.close_said.insert(id);
        let keys = parts.keys.get_mut(&id)?;
        let mut data = BytesMut::with_capacity(512);
        let start = keys.sealer.begin(&mut data);
        frame::put_close(&mut data, code, &text);
        let number = keys.sealer.finish(&mut data, start).ok()?;
        self.paths.get_mut(&id)?.on_sent(now, 0, number.0, data.len(), &[], false);
        Some(Transmit { link: id, lane: 0, data: data.freeze() })
    }

    /// Builds one record. `false`: there was nothing to put into it, or the link's keys are used up (it is closed then).
    fn build(
        &mut self,
        now: Instant,
        link: LinkId,
        lane: u8,
        fill: &Fill,
        data: &mut BytesMut,
        parts: &mut Parts<'_>,
    ) -> bool {
        let Some(keys) = parts.keys.get_mut(&link) else {
            self.forget_probe(link);
            return false;
        };
        if keys.sealer.should_rotate(now) && keys.sealer.rotate(now).is_err() {
            self.take_leave(now, link, parts);
            self.remove(now, link, LinkFailure::ClosedHere("its keys are used up".into()), true);
            return false;
        }
        let at = data.len();
        let start = keys.sealer.begin(data);
        let end = data.len() + RECORD_FRAMES_BYTES_MAX - frame::ACK_FREQUENCY_BYTES_MAX;
        if self.paths.get(&link).is_some_and(|path| !path.introduced) {
            frame::put_session(data, self.incarnation);
        }
        let begun = data.len();
        self.record_items.clear();
        let pinged = self.put_control(now, link, fill, data, parts);
        self.put_messages(link, fill, end.saturating_sub(data.len()), data, parts);
        if data.len() == begun {
            start.cancel(data);
            return false;
        }
        // Behind the rest, so that what is wished goes out with something, or counts as not said.
        self.put_wish(now, link, fill, data);
        let Some(keys) = parts.keys.get_mut(&link) else { return false };
        let Ok(number) = keys.sealer.finish(data, start) else {
            data.truncate(at);
            self.orphans.append(&mut self.record_items);
            self.take_leave(now, link, parts);
            self.remove(now, link, LinkFailure::ClosedHere("its keys are used up".into()), true);
            return false;
        };
        let eliciting = pinged || !self.record_items.is_empty();
        let bytes = data.len() - at;
        if let Fill::Class(class) | Fill::Datagrams(class) = fill {
            self.scheduler.on_served(*class, bytes);
            self.datagrams_ahead += if matches!(fill, Fill::Datagrams(_)) { bytes as i64 } else { -(bytes as i64) };
        }
        let items = std::mem::take(&mut self.record_items);
        if let Some(path) = self.paths.get_mut(&link) {
            path.on_sent(now, lane, number.0, bytes, &items, eliciting);
        }
        self.record_items = items;
        true
    }

    fn forget_probe(&mut self, link: LinkId) {
        // Without keys the link is on its way out; nothing can be due on it.
        if let Some(path) = self.paths.get_mut(&link) {
            path.probe_due = false;
        }
        self.notices.remove(&link);
    }

    /// What is due on a link besides messages. Says whether a probe is among it.
    fn put_control(
        &mut self,
        now: Instant,
        link: LinkId,
        fill: &Fill,
        data: &mut BytesMut,
        parts: &mut Parts<'_>,
    ) -> bool {
        self.put_acks(now, link, data);
        if parts.inbound.has_announcements() {
            for (channel, sequence) in iter::from_fn(|| parts.inbound.next_rejection()).take(ANNOUNCEMENTS_MAX) {
                frame::put_quarantined(data, channel, sequence);
                self.record_items.push(RecordItem::Quarantined(channel, sequence));
            }
            let window = parts.inbound.channel_window();
            for (channel, next) in iter::from_fn(|| parts.inbound.next_announcement()).take(ANNOUNCEMENTS_MAX) {
                frame::put_delivered(data, channel, next, window);
                self.record_items.push(RecordItem::Delivered(channel, next));
            }
        }
        if let Some(notices) = self.notices.remove(&link) {
            for (dead, code) in notices {
                frame::put_link_down(data, dead, code);
                self.record_items.push(RecordItem::LinkDown(dead));
            }
        }
        let control = matches!(fill, Fill::Control);
        if control
            && self.addresses_due
            && let Some(addresses) = &self.addresses
        {
            frame::put_addresses(data, addresses);
            self.record_items.push(RecordItem::Addresses);
            self.addresses_due = false;
        }
        let Some(path) = self.paths.get_mut(&link) else { return false };
        let ping = path.probe_due;
        path.probe_due = false;
        if ping {
            path.budget.on_probe(now);
            frame::put_ping(data);
        }
        ping
    }

    /// How the peer is to acknowledge from now on, if that is news.
    fn put_wish(&mut self, now: Instant, link: LinkId, fill: &Fill, data: &mut BytesMut) {
        let Some(path) = self.paths.get_mut(&link) else { return };
        let wish = match fill {
            Fill::Control => path.acks.is_for_a_stream(now).then(|| path.ack_pace.in_return(now)).flatten(),
            Fill::Class(_) | Fill::Datagrams(_) | Fill::Copies => {
                path.ack_pace.wish(now, path.window.in_flight(), path.window_bytes())
            }
        };
        if let Some(wish) = wish {
            let delay = u64::try_from(wish.delay.as_micros()).unwrap_or(u64::MAX);
            frame::put_ack_frequency(data, wish.records.into(), delay);
        }
    }

    /// The acknowledgements of this link, and of failing ones that should not carry their own.
    pub(super) fn put_acks(&mut self, now: Instant, link: LinkId, data: &mut BytesMut) {
        let usable = self.paths.get(&link).is_some_and(|path| path.state.is_usable());
        for (id, path) in self.paths.iter_mut() {
            let carried = *id == link || (usable && !path.state.is_usable());
            if !carried || !path.acks.is_pending() {
                continue;
            }
            if let Some((ranges, held)) = path.acks.take(now) {
                let held = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
                frame::put_ack(data, *id, held, ranges.iter().rev().map(|range| range.start..=range.end - 1));
            }
        }
    }

    fn put_messages(&mut self, link: LinkId, fill: &Fill, room: usize, data: &mut BytesMut, parts: &mut Parts<'_>) {
        let mut items = room::sent();
        match fill {
            Fill::Class(class) => parts.outbox.fill(*class, room.min(self.record_bytes(link)), data, &mut items),
            Fill::Datagrams(class) => self.put_datagrams(*class, link, room, data, parts),
            Fill::Copies => self.put_copies(link, room.min(self.record_bytes(link)), data, &mut items, parts),
            Fill::Control => {}
        }
        self.record_items.extend(items.iter().copied().map(RecordItem::Data));
        room::give_sent(items);
    }

    /// As many datagrams as fit a record of usual size, and one in any case: it cannot be divided.
    fn put_datagrams(&mut self, class: usize, link: LinkId, room: usize, data: &mut BytesMut, parts: &mut Parts<'_>) {
        let (begun, usual, direct) = (data.len(), self.record_bytes(link), self.is_direct(link));
        while let Some(head) = parts.outbox.datagrams.head(class) {
            if head.concern == Concern::Mesh.code() && !direct {
                return;
            }
            let bytes = frame::datagram_bytes(head.payload.len());
            let first = data.len() == begun;
            let most = if first { room } else { room.min(usual) };
            if data.len() - begun + bytes > most {
                return;
            }
            let Some(datagram) = parts.outbox.datagrams.pop(class) else { return };
            frame::put_datagram(data, datagram.concern, &datagram.payload);
            self.record_items.push(RecordItem::Datagram);
        }
    }

    fn put_copies(
        &mut self,
        link: LinkId,
        room: usize,
        data: &mut BytesMut,
        items: &mut Vec<SentItem>,
        parts: &mut Parts<'_>,
    ) {
        let end = data.len() + room;
        while let Some((_, item)) = self.copies.pop_front_if(|(target, _)| *target == link) {
            let rest = parts.outbox.write_item(item, end.saturating_sub(data.len()), data, items);
            if let Some(rest) = rest {
                if !items.is_empty() {
                    self.copies.push_front((link, rest));
                }
                return;
            }
        }
    }

    /// How many bytes of messages a record on a link holds: fewer on a slow link, so that an urgent one can get between.
    fn record_bytes(&self, link: LinkId) -> usize {
        let rate = self.paths.get(&link).and_then(|path| path.window.rate());
        rate.map_or(RECORD_BYTES, |rate| ((rate * RECORD_SECONDS) as usize).clamp(RECORD_BYTES_MIN, RECORD_BYTES))
    }

    /// Tells every link but the named one that it is dead.
    pub(super) fn notice(&mut self, link: LinkId, dead: LinkId, code: LinkDownCode) {
        /// Notices that wait for one link at most: a peer that makes links die cannot make this grow.
        const NOTICES_MAX: usize = 64;
        let notices = self.notices.entry(link).or_default();
        if notices.len() < NOTICES_MAX && !notices.iter().any(|(known, _)| *known == dead) {
            notices.push((dead, code));
        }
    }
}
