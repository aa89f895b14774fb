//! Why a member is gone: what speaks for which failure kind, and what its return says about that.
//!
//! A node that is silent looks the same from outside whether it crashed or is cut off. What tells them apart is what else is seen: others who
//! went silent together, answers that came late or over others, accusations it answered before. So a kind comes with a confidence, and with
//! the return more is known: a new life has certainly ended the one before; the same life was only out of reach.

use bowline_messages::health::Confidence;
use bowline_messages::membership::{Failure, FailureKind};

/// What is known about a member that is gone. Counts are of the recent past.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// Members of the group, this node not counted.
    pub members: usize,
    /// How many others were suspected or excluded about then.
    pub lost_together: usize,
    /// How many say that it does not answer.
    pub accusers: usize,
    /// How often it answered too late.
    pub late_answers: u32,
    /// How often it answered only when others asked it.
    pub helped_answers: u32,
    /// How often it was suspected and answered that.
    pub cleared: u32,
    /// What it did that an honest member does not do.
    pub offences: u32,
    /// How much this node doubts itself, 0 to 1.
    pub doubt: f64,
}

/// The confidence of a crash that nothing speaks against and one accuser for.
const CRASH_AT_LEAST: f64 = 0.5;
/// What each further accuser adds to it, of what is missing to certainty.
const CRASH_BY_ACCUSER: f64 = 0.15;
/// The confidence of a partition when two are lost together; it grows to almost certain when half of the group is.
const PARTITION_AT_LEAST: f64 = 0.55;
/// The confidence that follows from one sign of loss, lateness or ill will, of what is missing to certainty.
const BY_SIGN: f64 = 0.3;
/// How much of a conclusion is left when this node doubts itself completely.
const LEFT_BY_DOUBT: f64 = 0.5;
/// The confidence of what only a return can tell.
const BY_RETURN: f64 = 0.95;

/// The most probable kind.
pub fn classify(evidence: &Evidence) -> Failure {
    let candidates = [
        (FailureKind::ByzantineFailure, by_signs(evidence.offences)),
        (FailureKind::NetworkPartition, partition(evidence)),
        (FailureKind::TimeoutFailure, by_signs(evidence.late_answers + evidence.cleared)),
        (FailureKind::MessageLoss, by_signs(evidence.helped_answers)),
        (FailureKind::CrashFailure, crash(evidence)),
    ];
    // The first of equals: what needs the stronger evidence stands first.
    let (kind, value) = candidates
        .into_iter()
        .fold((FailureKind::CrashFailure, 0.0), |best, other| if other.1 > best.1 { other } else { best });
    let doubted = value * (1.0 - (1.0 - LEFT_BY_DOUBT) * evidence.doubt.clamp(0.0, 1.0));
    Failure { kind, confidence: Confidence::new(doubted) }
}

/// What a failure was, now that the member is back.
pub fn revise(before: Failure, restarted: bool) -> Failure {
    let certain = |kind| Failure { kind, confidence: Confidence::new(BY_RETURN) };
    match before.kind {
        // Ill will is not refuted by coming back.
        FailureKind::ByzantineFailure => before,
        FailureKind::CrashFailure
        | FailureKind::NetworkPartition
        | FailureKind::MessageLoss
        | FailureKind::TimeoutFailure
            if restarted =>
        {
            certain(FailureKind::CrashFailure)
        }
        // It was there all the time: one that was alone in that answered too late, or its path was cut.
        FailureKind::CrashFailure => Failure { kind: FailureKind::NetworkPartition, confidence: Confidence::new(0.6) },
        FailureKind::NetworkPartition => certain(FailureKind::NetworkPartition),
        FailureKind::MessageLoss | FailureKind::TimeoutFailure => {
            Failure { kind: before.kind, confidence: before.confidence.either(Confidence::new(0.5)) }
        }
    }
}

fn partition(evidence: &Evidence) -> f64 {
    if evidence.lost_together == 0 || evidence.members == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss)]
    let share = (evidence.lost_together + 1) as f64 / evidence.members as f64;
    PARTITION_AT_LEAST + (0.98 - PARTITION_AT_LEAST) * (2.0 * share).min(1.0)
}

fn crash(evidence: &Evidence) -> f64 {
    let further = i32::try_from(evidence.accusers.saturating_sub(1).min(32)).unwrap_or(32);
    1.0 - (1.0 - CRASH_AT_LEAST) * (1.0 - CRASH_BY_ACCUSER).powi(further)
}

fn by_signs(signs: u32) -> f64 {
    1.0 - (1.0 - BY_SIGN).powi(i32::try_from(signs.min(32)).unwrap_or(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Evidence {
        Evidence { members: 9, accusers: 3, ..Evidence::default() }
    }

    fn kind(evidence: Evidence) -> FailureKind {
        classify(&evidence).kind
    }

    #[test]
    fn one_that_falls_silent_alone_has_crashed() {
        assert_eq!(kind(alone()), FailureKind::CrashFailure);
        let (one, many) = (Evidence { accusers: 1, ..alone() }, Evidence { accusers: 5, ..alone() });
        assert!(classify(&one).confidence < classify(&many).confidence);
    }

    #[test]
    fn those_that_fall_silent_together_are_cut_off() {
        assert_eq!(kind(Evidence { lost_together: 3, ..alone() }), FailureKind::NetworkPartition);
        let (few, half) = (Evidence { lost_together: 1, ..alone() }, Evidence { lost_together: 4, ..alone() });
        assert!(classify(&few).confidence < classify(&half).confidence);
    }

    #[test]
    fn late_answers_and_lost_packets_are_told_from_silence() {
        assert_eq!(kind(Evidence { late_answers: 2, cleared: 2, ..alone() }), FailureKind::TimeoutFailure);
        assert_eq!(kind(Evidence { helped_answers: 4, ..alone() }), FailureKind::MessageLoss);
        assert_eq!(kind(Evidence { helped_answers: 1, ..alone() }), FailureKind::CrashFailure);
    }

    #[test]
    fn ill_will_outweighs_all_else_when_it_is_repeated() {
        assert_eq!(kind(Evidence { offences: 5, ..alone() }), FailureKind::ByzantineFailure);
        assert_eq!(kind(Evidence { offences: 1, ..alone() }), FailureKind::CrashFailure);
    }

    #[test]
    fn a_node_that_doubts_itself_is_less_sure() {
        let sure = classify(&alone());
        let unsure = classify(&Evidence { doubt: 1.0, ..alone() });
        assert_eq!(sure.kind, unsure.kind);
        assert!(unsure.confidence < sure.confidence);
    }

    #[test]
    fn a_return_tells_a_crash_from_silence() {
        let crash = classify(&alone());
        assert_eq!(revise(crash, true).kind, FailureKind::CrashFailure);
        assert!(revise(crash, true).confidence > crash.confidence);
        assert_eq!(revise(crash, false).kind, FailureKind::NetworkPartition);
        let cut = classify(&Evidence { lost_together: 3, ..alone() });
        assert_eq!(revise(cut, true).kind, FailureKind::CrashFailure);
        assert_eq!(revise(cut, false).kind, FailureKind::NetworkPartition);
        assert!(revise(cut, false).confidence > cut.confidence);
        let late = classify(&Evidence { late_answers: 3, ..alone() });
        assert_eq!(revise(late, false).kind, FailureKind::TimeoutFailure);
        let liar = classify(&Evidence { offences: 5, ..alone() });
        assert_eq!(revise(liar, true), liar);
    }
}
