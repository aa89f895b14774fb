//! What dies, and when. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often something dies.
pub const EVERY: Duration = Duration::from_secs(2);
/// How long before the next fault a silent path carries traffic again.
pub const HEALED_BEFORE: Duration = Duration::from_millis(700);

/// What can die. "In use" is the link that carries the dice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection in use is reset at both ends.
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
    /// In the order in which they come, again and again.
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

/// The faults of a demonstration of this length: one every [`EVERY`], the last one so early that its end is seen.
pub fn plan(length: Duration) -> Vec<Step> {
    let last = length.saturating_sub(EVERY / 2);
    (0..)
        .map(|turn: u32| Step {
            at: EVERY * (turn + 1),
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
        let plan = plan(Duration::from_secs(30));
        assert_eq!(plan.len(), 14);
        for fault in Fault::ROUND {
            assert!(plan.iter().filter(|step| step.fault == fault).count() >= 2, "{fault:?}");
        }
        assert!(plan.iter().any(|step| step.node == 1 && step.fault == Fault::SessionActor));
    }

    #[test]
    fn a_short_one_ends_before_its_end() {
        assert!(plan(Duration::from_secs(2)).is_empty());
        assert_eq!(plan(Duration::from_secs(3)).len(), 1);
    }
}
