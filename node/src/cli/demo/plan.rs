//! What dies, and when. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often something dies when there is time for it.
pub const EVERY: Duration = Duration::from_secs(2);
/// The share of the time to the next fault during which a silent path stays silent.
const SILENT_SHARE: f64 = 0.65;

/// How often something dies in a demonstration of this length: often enough for every kind of fault, and at most every [`EVERY`].
pub fn pace(length: Duration) -> Duration {
    let turns = u32::try_from(Fault::ROUND.len() + 1).unwrap_or(u32::MAX);
    EVERY.min(length / turns)
}

/// How long a silent path stays silent at this pace.
pub fn silence(every: Duration) -> Duration {
    every.mul_f64(SILENT_SHARE)
}

/// What can die. "In use" is the link that carries the dice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection in use is reset at both ends. QUIC has no resets: its datagrams come from another port from then on, as behind
    /// an address translator that was restarted, and its link survives that.
    #[default]
    Reset,
    /// The path of the link in use goes silent both ways.
    BlackHole,
    /// The actor of the transport in use is made to panic.
    TransportActor,
    /// The session's actor is made to panic.
    SessionActor,
    /// All paths but one go silent at once; the one in use is among them.
    AllButOne,
}

impl Fault {
    /// All of them, in the order in which they come, again and again.
    pub const ROUND: [Self; 5] =
        [Self::Reset, Self::BlackHole, Self::SessionActor, Self::AllButOne, Self::TransportActor];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::BlackHole => "black hole",
            Self::TransportActor => "transport actor killed",
            Self::SessionActor => "session actor killed",
            Self::AllButOne => "all links but one silent",
        }
    }

    /// Whether it silences paths, which have to be opened again.
    pub const fn silences(self) -> bool {
        matches!(self, Self::BlackHole | Self::AllButOne)
    }
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, from the start of the traffic.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// Which of the two nodes loses an actor: they take turns by rounds.
    pub node: usize,
}

/// The faults of a demonstration of this length: one `every` so often, the last one so early that its end is seen.
pub fn plan(length: Duration, every: Duration) -> Vec<Step> {
    let last = length.saturating_sub(every / 2);
    (0..)
        .map(|turn: u32| Step {
            at: every * (turn + 1),
            fault: Fault::ROUND[turn as usize % Fault::ROUND.len()],
            node: turn as usize / Fault::ROUND.len() % 2,
        })
        .take_while(|step| step.at <= last)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_sees_every_fault_and_both_nodes() {
        let plan = plan(Duration::from_secs(30), pace(Duration::from_secs(30)));
        assert_eq!(plan.len(), 14);
        for fault in Fault::ROUND {
            assert!(plan.iter().filter(|step| step.fault == fault).count() >= 2, "{fault:?}");
        }
        assert!(plan.iter().any(|step| step.node == 1 && step.fault == Fault::SessionActor));
    }

    #[test]
    fn a_short_one_ends_before_its_end() {
        assert!(plan(Duration::from_secs(2), EVERY).is_empty());
        assert_eq!(plan(Duration::from_secs(3), EVERY).len(), 1);
    }

    #[test]
    fn however_short_it_is_every_fault_comes() {
        for seconds in [1, 3, 6, 11, 12, 29, 120] {
            let length = Duration::from_secs(seconds);
            let plan = plan(length, pace(length));
            assert!(Fault::ROUND.iter().all(|fault| plan.iter().any(|step| step.fault == *fault)), "{seconds} s");
            assert!(plan.iter().all(|step| step.at < length));
        }
        assert_eq!(pace(Duration::from_secs(30)), EVERY);
    }
}
