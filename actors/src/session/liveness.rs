//! Judging links: suspicion, verdict, recovery. The rules, in order (`docs/sessions.md`):
//!
//! 1. What the operating system or the transport says is believed at once (`Session::on_link_down`).
//! 2. Data unacknowledged for a probe time-out is a suspicion: the link becomes `Degraded`, the oldest messages are copied to the
//!    best other link within a byte budget, the link is probed. Acknowledged probes do not lift it: only data does.
//! 3. After three probe time-outs without progress everything unacknowledged goes over other links (*withdrawal*). If there is no other
//!    link the messages stay where they are, since a reliable link that revives delivers them.
//!    What was overtaken on its own lane, where order is kept, is lost: the peer's session crashed with it in hand, or the link drops some
//!    records. It is sent again at once; what is acknowledged besides it is no progress until it is as well.
//! 4. Once the silence is longer than what the link has shown of late (`Patience`) it is the *verdict*: `Failing`. Nothing hangs on it
//!    any more but whether the peer and others are told. A link that carries nothing is given `spare_patience`.
//! 5. A late acknowledgement is a false alarm: back to `Degraded`, and to `Active` after a while without suspicion. A link that passes
//!    some records and not others is acquitted by those only that it did not pass.
//! 6. A link that stays silent is closed after a time-out, a longer one when it is the last.

use std::time::{Duration, Instant};

use bowline_messages::LinkId;
use bowline_messages::event::EventKind;
use bowline_messages::health::Advice;
use bowline_messages::link::{LinkFailure, LinkState, LinkStep};
use bowline_messages::wire::frame::LinkDownCode;

use super::machine::{Failover, Parts, Session, down_code};
use super::path::{Path, RecordItem};
use super::receive::old_key_kept;

/// Probe time-outs without progress after which nothing is left on a link.
const WITHDRAWAL_TIMEOUTS: u32 = 3;
/// Nothing is withdrawn earlier than this: a process that was not scheduled for a moment is not a dead link.
const WITHDRAWAL_MIN: Duration = Duration::from_millis(15);
/// The wait between suspicions of the last link doubles so often, and stays at that.
const PATIENCE_DOUBLINGS: u32 = 8;
/// Without suspicion for this long a degraded link is active again.
const IMPROVEMENT_AFTER: Duration = Duration::from_secs(1);
/// A session counts as busy for this long after its last message.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// A timer may fire so late without any doubt that this process was running.
const LATENESS_BORNE: Duration = Duration::from_millis(50);
/// The links' silence is forgiven so often at most: on a node that is always late verdicts come late, but they come.
const FORGIVEN_EVERY: Duration = Duration::from_secs(2);
/// The longest pause between probes of a failing link.
const FAILING_PROBE_MAX: Duration = Duration::from_secs(1);

impl Session {
    /// The next moment at which [`Session::on_timeout`] wants to run.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let mut first = sooner(self.watch.as_ref().map(|watch| watch.deadline()), self.shift_deadline());
        // Asked after everything that happens on any link.
        for path in self.paths.values() {
            let due = [
                path.ack_deadline(),
                self.suspicion_at(now, path),
                self.close_at(path),
                self.probe_at(now, path),
                improvement_at(path),
                path.old_key_until,
            ];
            first = due.into_iter().fold(first, sooner);
        }
        first
    }

    /// Whether there was traffic just now.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy_at.is_some_and(|at| now.saturating_duration_since(at) < BUSY_FOR)
    }

    /// When the link is suspected (again) if nothing is acknowledged until then.
    fn suspicion_at(&self, now: Instant, path: &Path) -> Option<Instant> {
        if path.state == LinkState::Failing {
            return None;
        }
        let since = path.waiting_since()?;
        let asked_again = asked_again_after(path);
        let verdict = path.suspicions > 1 && path.state.is_usable() && self.has_sound_other(path.info.id);
        Some(since + if verdict { asked_again.min(self.borne(now, path)) } else { asked_again })
    }

    /// How long missing progress is borne until the verdict.
    pub(super) fn borne(&self, now: Instant, path: &Path) -> Duration {
        let withdrawal = withdrawn_after(path.probe_timeout());
        let most = self.config.spare_patience;
        if path.silent_since.is_some() || path.has_outstanding_content() {
            path.patience.verdict_after(now, path.rtt.smoothed(), withdrawal, most)
        } else {
            withdrawal.max(most)
        }
    }

    /// Whether there is another link that works and is not suspected.
    fn has_sound_other(&self, id: LinkId) -> bool {
        self.paths.values().any(|path| path.info.id != id && path.state.is_usable() && path.suspicions == 0)
    }

    fn close_at(&self, path: &Path) -> Option<Instant> {
        if path.state == LinkState::Initializing {
            // Nothing was sent on it since it was made: the peer, or whoever repeats what the peer once said, has to speak first.
            return Some(path.eliciting_at + self.config.failover_timeout);
        }
        // The last link is never called failing. It is given up all the same when nothing comes back for long.
        let last = || path.missing_since().or(path.waiting_since()).filter(|_| path.suspicions > 1);
        let since = path.failing_since.or_else(last)?;
        let other = self.paths.values().any(|p| p.state.is_usable() && p.suspicions == 0);
        Some(since + if other { self.config.failover_timeout } else { self.config.last_link_timeout })
    }

    /// When the link is to be probed if nothing else is sent on it until then.
    fn probe_at(&self, now: Instant, path: &Path) -> Option<Instant> {
        let pause = if path.state == LinkState::Failing {
            (path.probe_timeout() * 4).min(FAILING_PROBE_MAX)
        } else if path.has_outstanding() {
            // The suspicion comes first; it probes as well.
            self.config.heartbeat.max(self.config.probe)
        } else if self.is_busy(now) {
            self.config.probe.min(self.config.heartbeat)
        } else {
            self.config.heartbeat
        };
        // What nothing hangs on waits until the medium's budget has room for it; a suspicion does not.
        Some((path.eliciting_at + pause).max(path.budget.affordable_at()))
            .filter(|_| path.state != LinkState::Initializing)
    }

    /// A deadline was reached. Late and spurious calls do no harm.
    pub fn on_timeout(&mut self, now: Instant, parts: &mut Parts<'_>) {
        parts.outbox.on_timeout(now);
        let ids: Vec<_> = self.paths.keys().copied().collect();
        for id in ids {
            self.check_path(now, id);
        }
        self.check_shift(now);
        self.age_keys(now, parts);
        self.report_seen(now);
        self.reroute(now, parts);
    }

    /// Forgets keys of epochs that are over.
    fn age_keys(&mut self, now: Instant, parts: &mut Parts<'_>) {
        let keep = old_key_kept(&self.config);
        for (id, path) in self.paths.iter_mut() {
            let keys = parts.keys.get_mut(id);
            path.old_key_until = keys.and_then(|keys| keys.opener.age_previous(now, keep));
        }
    }

    fn check_path(&mut self, now: Instant, id: LinkId) {
        let Some(path) = self.paths.get(&id) else { return };
        let suspicious = self.suspicion_at(now, path).is_some_and(|at| at <= now);
        let probe = self.probe_at(now, path).is_some_and(|at| at <= now);
        let improved = improvement_at(path).is_some_and(|at| at <= now);
        if self.close_at(path).is_some_and(|at| at <= now) {
            let silent = path.waiting_since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            self.remove(now, id, LinkFailure::Silent(silent), true);
            return;
        }
        if let Some(path) = self.paths.get_mut(&id)
            && probe
        {
            path.probe_due = true;
        }
        if suspicious {
            self.on_suspicion(now, id);
        } else if improved {
            self.take_step(now, id, LinkStep::QualityImprovement, None);
        }
    }

    fn on_suspicion(&mut self, now: Instant, id: LinkId) {
        let carried = self.carries_traffic(id);
        let other = self.has_sound_other(id);
        if !other && self.paths.values().filter(|path| path.state.is_usable()).nth(1).is_some() {
            self.all_silent_at = Some(now);
        }
        let borne = self.paths.get(&id).map_or(Duration::MAX, |path| self.borne(now, path));
        let Some(path) = self.paths.get_mut(&id) else { return };
        let since = path.waiting_since().unwrap_or(now);
        let waited = now.saturating_duration_since(since);
        // Probes were acknowledged since the oldest data was sent: the link lives, and does not carry.
        let stalled = (path.is_withdrawn() && path.passes_others)
            || (path.has_outstanding_data() && path.probe_answered_since_data());
        let reason = if stalled { LinkFailure::Stalled(waited) } else { LinkFailure::Unacknowledged(waited) };
        path.suspicions += 1;
        path.forecast.on_lost(now);
        if let Some(watch) = &mut self.watch {
            watch.on_missed(now, id);
        }
        path.probe_due = true;
        self.shift_missed(now, id);
        let Some(path) = self.paths.get_mut(&id) else { return };
        let (first, usable) = (path.suspicions == 1, path.state.is_usable());
        path.carried |= carried;
        let lost = path.lose_overtaken(now);
        if other && let Some(RecordItem::Data(item)) = lost.iter().find(|item| matches!(item, RecordItem::Data(_))) {
            // What is lost goes over the others; this link is given the oldest once more, to be judged by what becomes of it.
            self.copies.push_back((id, *item));
        }
        self.orphans.extend(lost);
        let Some(path) = self.paths.get(&id) else { return };
        if first {
            let copies = path.oldest_data(self.config.hedge_bytes);
            self.hedges.extend(copies.into_iter().map(|item| (id, item)));
            self.mark_degraded(now, id, reason);
        } else if other && usable && waited >= borne {
            self.on_verdict(now, id, reason);
        } else if other && usable {
            self.withdraw(now, id, since, &reason);
        }
    }

    /// Everything that was on the link goes over others, whether it is dead or only late. What it had to pass counts until it shows that
    /// it passes something.
    fn withdraw(&mut self, now: Instant, id: LinkId, since: Instant, reason: &LinkFailure) {
        let carried = self.carries_traffic(id);
        let Some(path) = self.paths.get_mut(&id) else { return };
        if !carried && !path.has_outstanding_content() {
            return;
        }
        // Nothing but what it had to pass acquits it from now on.
        path.note_missing(now);
        path.passes_others |= matches!(reason, LinkFailure::Stalled(_));
        path.silent_since = Some(since);
        path.degraded_at = Some(now);
        let moved = std::mem::replace(&mut path.rerouted, true);
        let lost = path.lose_all();
        path.probe_due = true;
        path.stats.frames_rerouted += lost.len() as u64;
        let info = path.info.clone();
        self.orphans.extend(lost);
        self.shift_died(now, id);
        if carried && !moved {
            self.penalise(now, &info);
            self.begin_failover(now, id, reason);
        }
    }

    pub(super) fn mark_degraded(&mut self, now: Instant, id: LinkId, reason: LinkFailure) {
        if self.paths.get(&id).is_some_and(|path| path.state == LinkState::Active) {
            self.take_step(now, id, LinkStep::QualityDecline, Some(reason));
        }
        if let Some(path) = self.paths.get_mut(&id) {
            path.degraded_at = Some(now);
        }
    }

    /// The link is failing: nothing new goes over it, and what it kept goes over others.
    fn on_verdict(&mut self, now: Instant, id: LinkId, reason: LinkFailure) {
        if !self.take_step(now, id, LinkStep::CriticalError, Some(reason.clone())) {
            return;
        }
        let Some(path) = self.paths.get_mut(&id) else { return };
        path.failing_since = Some(now);
        path.silent_since = path.silent_since.or(path.waiting_since());
        let moved = std::mem::replace(&mut path.rerouted, true);
        if matches!(reason, LinkFailure::Stalled(_)) {
            path.note_missing(now);
        }
        let carried = self.carries_traffic(id);
        let Some(path) = self.paths.get_mut(&id) else { return };
        let lost = path.lose_all();
        path.stats.frames_rerouted += lost.len() as u64;
        let info = path.info.clone();
        self.orphans.extend(lost);
        if !moved {
            self.penalise(now, &info);
        }
        if carried && !moved {
            self.begin_failover(now, id, &reason);
        }
        self.shift_died(now, id);
        // Its own report is no news to the peer; it would take the echo for more than a suspicion and close the link.
        if reason != LinkFailure::PeerReported {
            self.notify_peer(id, down_code(&reason));
        }
    }

    /// Whether a link has a part in the session's traffic: it is the choice of a class, messages on it are unacknowledged, or the
    /// last message came over it. What becomes of any other is nothing that traffic has to be moved for.
    pub(super) fn carries_traffic(&self, id: LinkId) -> bool {
        self.received_on == Some(id)
            || self.chooser.uses(id)
            || self.gradual.as_ref().is_some_and(|gradual| gradual.uses(id))
            || self.paths.get(&id).is_some_and(|path| path.has_outstanding_data() || path.carried)
    }

    /// Traffic has to be moved away from a link.
    pub(super) fn begin_failover(&mut self, now: Instant, from: LinkId, reason: &LinkFailure) {
        let reason = reason.clone();
        self.outputs.push_back(super::machine::Output::Emit(EventKind::FailoverStarted {
            peer: self.peer,
            from,
            reason,
        }));
        self.failovers += 1;
        self.failover.get_or_insert(Failover { from, since: now, moved: 0 });
        if !self.paths.values().any(|path| path.info.id != from && path.state.is_usable()) {
            self.outputs.push_back(super::machine::Output::Emit(EventKind::FailoverStalled { peer: self.peer, from }));
        }
    }

    /// A timer fired so late. Says whether that casts doubt on this process: then the links' silence says nothing, unless that was said
    /// a moment ago.
    pub fn on_late(&mut self, now: Instant, late: Duration) -> bool {
        let doubtful = late > LATENESS_BORNE;
        if doubtful && self.forgiven_at.is_none_or(|at| now.saturating_duration_since(at) >= FORGIVEN_EVERY) {
            self.forgiven_at = Some(now);
            self.on_starved(now);
        }
        doubtful
    }

    /// Something came over a link that had not answered for long: the peer was stopped and goes on, or the link is back. Every link is asked
    /// at once, and not when its turn comes: the pauses between questions have grown meanwhile. No oftener than answers can come.
    pub(super) fn on_heard_again(&mut self, now: Instant) {
        for path in self.paths.values_mut().filter(|path| path.state != LinkState::Initializing) {
            path.probe_due |= path.eliciting_at + path.probe_timeout() <= now;
        }
    }

    /// The last link answers again and shows that it has lost something: that is sent again at once.
    pub(super) fn send_overtaken_again(&mut self, now: Instant, id: LinkId) {
        if self.has_sound_other(id) {
            return;
        }
        let Some(path) = self.paths.get_mut(&id).filter(|path| path.suspicions > 1) else { return };
        let lost = path.lose_overtaken(now);
        path.stats.frames_rerouted += lost.len() as u64;
        self.orphans.extend(lost);
    }

    /// Gives what dead links carried back to the outbox, to be sent over others.
    pub(super) fn reroute(&mut self, now: Instant, parts: &mut Parts<'_>) {
        if self.orphans.is_empty() {
            return;
        }
        for item in std::mem::take(&mut self.orphans) {
            match item {
                RecordItem::Data(item) => {
                    if let Some(failover) = &mut self.failover {
                        failover.moved += item.messages();
                    }
                    parts.outbox.on_lost(item);
                }
                RecordItem::Delivered(channel, _) => parts.inbound.announce(channel),
                RecordItem::Addresses => self.addresses_due = true,
                // Each surviving link carries its own copy of the notice.
                RecordItem::LinkDown(_) | RecordItem::Datagram => {}
                RecordItem::Quarantined(channel, sequence) => parts.inbound.reject_again(channel, sequence),
            }
        }
        self.busy_at = Some(now);
    }

    /// Has every other link tell the peer that this one is dead or suspected.
    pub(super) fn notify_peer(&mut self, id: LinkId, code: LinkDownCode) {
        if code == LinkDownCode::Closed {
            return;
        }
        let others = self.paths.keys().filter(|other| **other != id).copied().collect::<Vec<_>>();
        for other in others {
            self.notice(other, id, code);
        }
    }

    /// An acknowledgement arrived for a link.
    pub(super) fn on_progress(&mut self, now: Instant, id: LinkId, data: bool) {
        let Some(path) = self.paths.get_mut(&id) else { return };
        let acquitted = path.missing_since().is_none() && (data || !path.has_outstanding_data());
        if path.state == LinkState::Failing && acquitted {
            path.failing_since = None;
            (path.silent_since, path.passes_others) = (None, false);
            path.rerouted = false;
            path.suspicions = 0;
            path.carried = false;
            path.degraded_at = Some(now);
            self.take_step(now, id, LinkStep::FalseAlarm, None);
        }
        if let Some(failover) = self.failover
            && failover.from != id
            && self.paths.get(&id).is_some_and(|path| path.state.is_usable())
        {
            self.failover = None;
            self.outputs.push_back(super::machine::Output::Emit(EventKind::FailoverCompleted {
                peer: self.peer,
                from: failover.from,
                to: id,
                took: now.saturating_duration_since(failover.since),
                messages_moved: failover.moved,
            }));
        }
    }

    /// The peer says that a link is dead for it.
    pub(super) fn on_peer_report(&mut self, now: Instant, id: LinkId, code: LinkDownCode) {
        let Some(state) = self.paths.get(&id).map(|path| path.state) else { return };
        match code {
            LinkDownCode::Unacknowledged | LinkDownCode::Stalled | LinkDownCode::Silent => {
                // A suspicion of the peer's: ours as well, as long as there is another link. It may revive.
                let other = self.paths.values().any(|p| p.info.id != id && p.state.is_usable());
                if state.is_usable() && other {
                    self.on_verdict(now, id, LinkFailure::PeerReported);
                }
            }
            LinkDownCode::Transport
            | LinkDownCode::InterfaceDown
            | LinkDownCode::Closed
            | LinkDownCode::Failed
            | LinkDownCode::Protocol
            | LinkDownCode::Unknown(_) => self.remove(now, id, LinkFailure::PeerReported, true),
        }
    }

    /// Takes a step; `false` when the table of states has none such: our own mistake, which is logged and changes nothing.
    fn take_step(&mut self, now: Instant, id: LinkId, step: LinkStep, reason: Option<LinkFailure>) -> bool {
        let Some(mut path) = self.paths.remove(&id) else { return false };
        let taken = path.step(step);
        match taken {
            Ok(from) => {
                let evidence = self.emit_step(now, &path, from, step, reason);
                path.evidence = evidence.or(path.evidence.take());
            }
            Err(error) => tracing::debug!(link = %id, %error, "a step that is not in the table"),
        }
        self.paths.insert(id, path);
        taken.is_ok()
    }

    /// Notes that messages are under way.
    pub(super) fn on_busy(&mut self, now: Instant) {
        self.busy_at = Some(now);
    }

    /// Notes that messages arrived on a link.
    pub(super) fn on_messages_from(&mut self, now: Instant, link: LinkId) {
        self.on_busy(now);
        self.received_on = Some(link);
    }
}

/// The earlier one of those that there are.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// How long missing progress is borne before a link is asked again: one time-out up to the suspicion, three up to the withdrawal.
fn asked_again_after(path: &Path) -> Duration {
    let timeout = path.probe_timeout();
    match path.suspicions {
        0 => timeout,
        1 => withdrawn_after(timeout),
        // The last link that works is not judged; it is asked again and again, less and less often.
        // Each suspicion has to lie behind the one before, or the next one would be due at once, for ever.
        more => {
            let factor = if more <= PATIENCE_DOUBLINGS {
                1 << (more - 1)
            } else {
                (more - PATIENCE_DOUBLINGS + 1) << (PATIENCE_DOUBLINGS - 1)
            };
            withdrawn_after(timeout).saturating_mul(factor)
        }
    }
}

/// How long missing progress is borne until nothing is left on a link with this probe time-out.
fn withdrawn_after(timeout: Duration) -> Duration {
    (timeout * WITHDRAWAL_TIMEOUTS).max(WITHDRAWAL_MIN)
}

fn improvement_at(path: &Path) -> Option<Instant> {
    let calm = path.suspicions == 0 && path.advice == Advice::Keep;
    let degraded = path.degraded_at.filter(|_| path.state == LinkState::Degraded && calm)?;
    Some(degraded + IMPROVEMENT_AFTER)
}
