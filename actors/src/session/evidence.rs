//! What a session says of its links' health, and what it does about what the monitors say: mistrust, leaving before a failure, and the
//! evidence behind every step. Pure.

use std::time::{Duration, Instant};

use bowline_messages::event::EventKind;
use bowline_messages::health::{
    Advice, Alternative, Confidence, Evidence, Finding, Layer, LinkOpinion, LinkTurn, Rule, Turn,
};
use bowline_messages::link::{LinkFailure, LinkInfo, LinkState, LinkStep};
use bowline_messages::{LinkId, MessageClass};

use super::machine::{Output, Session};
use super::path::Path;
use super::policy::Worth;
use super::watch::Watch;
use crate::health::{fuse, millis};

impl Session {
    /// A round trip was measured on a link: kept for the monitor while there is traffic.
    #[inline]
    pub(super) fn watch_round_trip(&mut self, now: Instant, id: LinkId) {
        let Some(path) = self.paths.get(&id) else { return };
        if !self.is_busy(now) {
            return;
        }
        let took = path.rtt.latest();
        match &mut self.watch {
            Some(watch) => watch.on_round_trip(now, id, took),
            None if Watch::is_worth(path) => self.watch = Some(Box::new(Watch::new(now))),
            None => {}
        }
    }

    /// Reports what was seen of the links, once that is due, and follows what is known of them from the monitors.
    pub(super) fn report_seen(&mut self, now: Instant) {
        let busy = self.is_busy(now);
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.deadline() <= now) else { return };
        let mut observe = |path: &Path| watch.take(now, path).map(|seen| (path.info.transport.clone(), seen));
        let observed: Vec<_> = self.paths.values().filter_map(|path| observe(path)).collect();
        watch.rest(now, busy);
        let over = watch.is_over(now);
        let ids: Vec<_> = self.paths.keys().copied().collect();
        if over {
            self.watch = None;
        }
        for id in ids {
            self.follow_advice(now, id);
        }
        if !observed.is_empty() {
            self.outputs.push_back(Output::Seen(observed));
        }
    }

    /// A monitor says what it thinks of a link.
    pub fn on_opinion(&mut self, now: Instant, opinion: LinkOpinion) {
        let id = opinion.link;
        if let Some(watch) = &mut self.watch {
            watch.on_opinion(now, opinion);
        }
        self.follow_advice(now, id);
    }

    /// What the monitor thinks of a link, while there is traffic.
    pub(super) fn opinion(&self, id: LinkId) -> Option<&LinkOpinion> {
        self.watch.as_ref()?.opinion(id)
    }

    fn follow_advice(&mut self, now: Instant, id: LinkId) {
        let advice = self.watch.as_ref().map_or(Advice::Keep, |watch| watch.advice(now, id));
        let Some(path) = self.paths.get_mut(&id) else { return };
        let before = std::mem::replace(&mut path.advice, advice);
        if advice == Advice::Keep {
            path.left = false;
            if before != Advice::Keep && path.degraded_at.is_some() {
                // From now on it has to show that it is well.
                path.degraded_at = Some(now);
            }
            return;
        }
        if path.state == LinkState::Active {
            let because = self.opinion(id).and_then(worsening);
            self.mark_degraded(
                now,
                id,
                because.unwrap_or(LinkFailure::Worsening(Layer::Anomaly, Rule::MedianDeviation)),
            );
        }
        if advice == Advice::Leave {
            self.leave(now, id, before != Advice::Leave);
        }
    }

    /// Moves traffic off a link that still carries, onto another that is there already: nothing on the way is sent again. Without another
    /// one is asked for, once: to ask again and again would undo the back-off of addresses that nobody answers at.
    fn leave(&mut self, now: Instant, id: LinkId, news: bool) {
        if !self.chooser.uses(id) {
            return;
        }
        for other in self.paths.values_mut().filter(|path| path.info.id != id && path.state.is_usable()) {
            // What was not measured lately is measured before it is relied upon.
            other.probe_due |= !other.rtt.is_measured();
        }
        let class = MessageClass::Realtime;
        let choice = self.choose(now, class.index(), None, None);
        if news && choice.links[0] == Some(id) {
            self.outputs.push_back(Output::WantSpare);
        }
    }

    /// A class of messages goes over another link from now on. When the one before is about to fail, that is said, once.
    pub(super) fn on_preferred(&mut self, now: Instant, from: LinkId, to: LinkId, class: MessageClass, rule: &str) {
        let failing = self.paths.get_mut(&from).filter(|path| path.advice == Advice::Leave && path.state.is_usable());
        let event = match failing {
            Some(path) if path.left => return,
            Some(path) => {
                path.left = true;
                self.failovers += 1;
                let evidence = Box::new(self.evidence(now, from, Vec::new()));
                EventKind::ProactiveFailover { peer: self.peer, from, to, evidence }
            }
            None if class == MessageClass::Realtime => {
                EventKind::LinkPreferred { peer: self.peer, from, to, rule: rule.to_owned() }
            }
            None => return,
        };
        self.outputs.push_back(Output::Emit(event));
    }

    /// Why something is concluded about a link: these findings with what the monitor said, and what else there is.
    pub(super) fn evidence(&self, now: Instant, id: LinkId, own: Vec<Finding>) -> Evidence {
        let opinion = self.opinion(id);
        let doubt = opinion.map_or(Confidence::NONE, |opinion| opinion.doubt);
        let predicted = own.is_empty();
        let mut findings = own;
        findings.extend(opinion.into_iter().flat_map(|opinion| opinion.findings.iter().cloned()));
        let verdict = fuse(findings, doubt);
        let degrading = opinion.map_or(Confidence::NONE, |o| o.degrading.or_greater(o.outlook.probability));
        Evidence {
            confidence: if predicted { degrading } else { verdict.unusable },
            doubt: verdict.doubt,
            findings: verdict.findings,
            alternatives: self.alternatives(now, id),
        }
    }

    /// The other links with their scores for an urgent message.
    fn alternatives(&self, now: Instant, id: LinkId) -> Vec<Alternative> {
        let class = MessageClass::Realtime;
        let wanted = self.wanted(class, None, None);
        let others: Vec<&Path> = self.paths.values().map(|path| &**path).filter(|path| path.info.id != id).collect();
        let candidates: Vec<_> = others.iter().map(|path| self.candidate(now, path, class.index())).collect();
        let scores = self.chooser.worths(now, wanted, &candidates);
        let alternative = |(path, worth): (&&Path, Worth)| Alternative {
            id: path.info.id,
            condition: path.state,
            score: worth.score(),
        };
        others.iter().zip(scores).map(alternative).collect()
    }

    /// The evidence for a step that was taken for a reason, where something was concluded. Its time-out, and how long it is borne
    /// that nothing comes back.
    pub(super) fn evidence_for(
        &self,
        now: Instant,
        id: LinkId,
        reason: &LinkFailure,
        (timeout, borne): (Duration, Duration),
    ) -> Option<Box<Evidence>> {
        let waited = |rule, waited: Duration, borne: Duration| {
            // It is certain once the time for a verdict is over; a suspicion is a part of that.
            let share = waited.as_secs_f64() / borne.as_secs_f64().max(1e-9);
            Finding::new(Layer::Unacknowledged, rule, Confidence::new(share), &[millis(waited), millis(timeout)])
        };
        let said = |layer, rule| Finding::new(layer, rule, Confidence::CERTAIN, &[]);
        let own = match reason {
            LinkFailure::Unacknowledged(time) => {
                vec![waited(Rule::TimedOut, *time, borne)]
            }
            LinkFailure::Stalled(time) => vec![waited(Rule::Stalled, *time, borne)],
            LinkFailure::Silent(time) => vec![waited(Rule::TimedOut, *time, *time)],
            LinkFailure::Transport(_) | LinkFailure::ClosedByPeer | LinkFailure::InterfaceDown(_) => {
                vec![said(Layer::OperatingSystem, Rule::ReportedDown)]
            }
            LinkFailure::PeerReported => vec![said(Layer::Peer, Rule::PeerReported)],
            LinkFailure::Worsening(..) => Vec::new(),
            LinkFailure::ClosedHere(_)
            | LinkFailure::ActorPanicked
            | LinkFailure::Protocol(_)
            | LinkFailure::Refused(_) => return None,
        };
        Some(Box::new(self.evidence(now, id, own)))
    }

    /// Tells the monitor what became of a link.
    pub(super) fn turned(&mut self, info: &LinkInfo, turn: Turn) {
        let interface = info.interface.as_ref();
        let turn = LinkTurn {
            link: info.id,
            interface: interface.map(|interface| interface.name.clone()),
            medium: interface.map(|interface| interface.medium).unwrap_or_default(),
            turn,
        };
        self.outputs.push_back(Output::Turned(info.transport.clone(), turn));
    }

    /// This process was not running for a while: what did not come in that time says nothing of anybody, and what came has yet to be
    /// read. All waiting begins anew, and every link is asked at once how it is.
    pub fn on_starved(&mut self, now: Instant) {
        for path in self.paths.values_mut() {
            path.probe_due |= path.state != LinkState::Initializing;
            path.progress_at = now;
            path.failing_since = path.failing_since.map(|_| now);
            path.silent_since = path.silent_since.map(|_| now);
        }
    }
}

/// Whether a step says that a link fell or stands again.
pub(super) fn turn_of(step: LinkStep, reason: Option<&LinkFailure>) -> Option<Turn> {
    match step {
        LinkStep::CriticalError => match reason? {
            LinkFailure::Transport(_)
            | LinkFailure::Unacknowledged(_)
            | LinkFailure::Stalled(_)
            | LinkFailure::Silent(_)
            | LinkFailure::InterfaceDown(_)
            | LinkFailure::PeerReported
            | LinkFailure::Worsening(..) => Some(Turn::Fell),
            // Somebody's will or mistake, and nothing that links have in common.
            LinkFailure::ClosedByPeer
            | LinkFailure::ClosedHere(_)
            | LinkFailure::ActorPanicked
            | LinkFailure::Protocol(_)
            | LinkFailure::Refused(_) => None,
        },
        LinkStep::FalseAlarm => Some(Turn::Rose),
        LinkStep::FailureConfirmed | LinkStep::Closed => Some(Turn::Gone),
        LinkStep::Connected
        | LinkStep::Refused
        | LinkStep::QualityDecline
        | LinkStep::QualityImprovement
        | LinkStep::RecoveryAttempt
        | LinkStep::Recovered
        | LinkStep::RecoveryFailed => None,
    }
}

/// The surest finding about how a link changes, as a reason.
fn worsening(opinion: &LinkOpinion) -> Option<LinkFailure> {
    let telling = |finding: &&Finding| match finding.layer {
        Layer::Control | Layer::Rules | Layer::Anomaly | Layer::Trend => true,
        Layer::OperatingSystem | Layer::Peer | Layer::Unacknowledged | Layer::Arrivals | Layer::Correlation => false,
    };
    opinion.findings.iter().find(telling).map(|finding| LinkFailure::Worsening(finding.layer, finding.rule))
}
