//! Traffic that moves to another link in steps: what the session does about the machine that decides it (`policy/gradual.rs`). Pure.

use std::time::Instant;

use bowline_messages::event::EventKind;
use bowline_messages::health::Advice;
use bowline_messages::link::ShiftReason;
use bowline_messages::{LinkId, MessageClass, PolicyName};

use super::machine::{Output, Session};
use super::policy::gradual::{Begun, Gradual, Shifted, Turned};
use super::policy::{Candidate, Choice, Wanted, policy};

impl Session {
    /// A class goes over another link from now on: if the one before still carries, its traffic follows in steps.
    pub(super) fn begin_shift(
        &mut self,
        now: Instant,
        from: LinkId,
        to: LinkId,
        class: MessageClass,
        name: PolicyName,
    ) {
        if let Some(gradual) = &mut self.gradual {
            gradual.join(class, from, to);
            return;
        }
        let leaving = self.paths.get(&from).is_some_and(|path| path.advice == Advice::Leave);
        // Policies that learn by trying change links to see what comes of it; that is no move.
        if policy(name).learns() || !(leaving || self.config.gradual.preferences) {
            return;
        }
        let known = |id: LinkId| {
            let path = self.paths.get(&id).filter(|path| path.state.is_usable() && path.suspicions == 0)?;
            Some(path.rtt.is_measured().then(|| path.rtt.smoothed().as_secs_f64()))
        };
        let (Some(old), Some(new)) = (known(from), known(to)) else { return };
        let begun = Begun { from, to, class, leaving, old, new };
        let (gradual, shifted) = Gradual::begin(now, begun, &self.config.gradual);
        self.gradual = Some(Box::new(gradual));
        self.say_shifted(shifted);
    }

    /// The choice among these links, as far as traffic has moved there.
    pub(super) fn steer(&mut self, wanted: Wanted, mut chosen: Choice, links: &[Candidate]) -> Choice {
        let [Some(link), None] = chosen.links else { return chosen };
        let Some(mut gradual) = self.gradual.take() else { return chosen };
        let extra = self.urgent_extra();
        let can = |id: LinkId| {
            let path = self.paths.get(&id).filter(|path| path.state.is_usable() && path.suspicions == 0);
            path.is_some_and(|path| path.room(wanted.class.index(), extra) > 0) && !self.chooser.bars(wanted, id, links)
        };
        let taken = gradual.route(wanted.class, link, &self.config.gradual, can);
        self.gradual = Some(gradual);
        if taken != link {
            chosen = Choice { links: [Some(taken), None], rule: MOVING };
        }
        chosen
    }

    /// The choice as reports show it: where most of the traffic goes.
    pub(super) fn shown(&self, wanted: Wanted, chosen: Choice, links: &[Candidate]) -> Choice {
        let (Some(gradual), [Some(link), None]) = (&self.gradual, chosen.links) else { return chosen };
        let mostly = gradual.mostly(wanted.class, link, &self.config.gradual);
        let usable = self.paths.get(&mostly).is_some_and(|path| path.state.is_usable() && path.suspicions == 0);
        if mostly == link || !usable || self.chooser.bars(wanted, mostly, links) {
            chosen
        } else {
            Choice { links: [Some(mostly), None], rule: MOVING }
        }
    }

    /// A round trip was measured on a link.
    #[inline]
    pub(super) fn shift_round_trip(&mut self, now: Instant, id: LinkId) {
        let (Some(gradual), Some(path)) = (&mut self.gradual, self.paths.get(&id)) else { return };
        let turned = gradual.on_round_trip(now, id, path.rtt.latest(), &self.config.gradual);
        self.on_shift_turned(now, turned);
    }

    /// An answer did not come in time on a link.
    pub(super) fn shift_missed(&mut self, now: Instant, id: LinkId) {
        let Some(gradual) = &mut self.gradual else { return };
        let turned = gradual.on_missed(now, id, &self.config.gradual);
        self.on_shift_turned(now, turned);
    }

    /// A link is given up.
    pub(super) fn shift_died(&mut self, now: Instant, id: LinkId) {
        let Some(gradual) = &mut self.gradual else { return };
        let turned = gradual.on_died(id);
        self.on_shift_turned(now, turned);
    }

    /// Takes the next step once it is due.
    pub(super) fn check_shift(&mut self, now: Instant) {
        let Some(gradual) = self.gradual.as_mut().filter(|gradual| gradual.deadline(&self.config.gradual) <= now)
        else {
            return;
        };
        let turned = gradual.on_timeout(now, &self.config.gradual);
        self.on_shift_turned(now, turned);
    }

    /// When that is.
    pub(super) fn shift_deadline(&self) -> Option<Instant> {
        self.gradual.as_ref().map(|gradual| gradual.deadline(&self.config.gradual))
    }

    /// The third link that every class of the move prefers meanwhile: nothing follows to the one that was to take over.
    fn superseded_by(&self) -> Option<LinkId> {
        let gradual = self.gradual.as_ref()?;
        let (from, to) = gradual.links();
        let mut third = None;
        for class in gradual.classes() {
            third = Some(self.chooser.standing(class).filter(|link| *link != from && *link != to)?);
        }
        third
    }

    /// Whether every class of the move stands on the old link again: nothing goes over the new one, and nothing follows.
    fn is_back(&self) -> bool {
        self.gradual.as_ref().is_some_and(|gradual| {
            let (from, _) = gradual.links();
            gradual.classes().all(|class| self.chooser.standing(class) == Some(from))
        })
    }

    fn on_shift_turned(&mut self, now: Instant, turned: Turned) {
        let given_up = |shifted, reason| Turned::Over(Some(Shifted { share: 0.0, reason, ..shifted }));
        let turned = match (turned, self.superseded_by()) {
            (Turned::Shifted(shifted) | Turned::Over(Some(shifted)), Some(by)) => {
                given_up(shifted, ShiftReason::Superseded { by })
            }
            (Turned::Shifted(shifted) | Turned::Over(Some(shifted)), None) if is_step(&shifted) && self.is_back() => {
                given_up(shifted, ShiftReason::Returned)
            }
            (turned, _) => turned,
        };
        match turned {
            Turned::Nothing => {}
            Turned::Shifted(shifted) => self.say_shifted(shifted),
            Turned::Over(shifted) => {
                self.gradual = None;
                if let Some(shifted) = shifted {
                    self.say_shifted(shifted);
                }
            }
            Turned::Released => {
                let Some(gradual) = self.gradual.take() else { return };
                let (from, to) = gradual.links();
                if self.paths.get(&from).is_some_and(|path| path.state.is_usable()) {
                    self.chooser.put_back(now, gradual.classes(), to, from);
                }
            }
        }
    }

    fn say_shifted(&mut self, shifted: Shifted) {
        let Shifted { from, to, share, reason } = shifted;
        // What the new link does under the share is to be seen even when little is sent.
        if let Some(path) = self.paths.get_mut(&to).filter(|path| path.state.is_usable()) {
            path.probe_due = true;
        }
        self.outputs.push_back(Output::Emit(EventKind::TrafficShifted { peer: self.peer, from, to, share, reason }));
    }
}

/// Whether a move goes on by this, and not because a link died or proved worse.
fn is_step(shifted: &Shifted) -> bool {
    matches!(shifted.reason, ShiftReason::AsGood { .. } | ShiftReason::TimeUp { .. })
}

/// The rule behind a choice that has yet to follow, or was undone.
const MOVING: &str = "traffic moves in steps, or was moved back";
