//! From what is thought of a link to what to do about it: one odd interval changes nothing, and neither does one good one.

use bowline_messages::health::{Advice, Confidence, Layer, Outlook};

use super::fusion::Verdict;

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JudgeConfig {
    /// From this confidence on that a link is worse than usual it is mistrusted, 0 to 1.
    pub mistrust: f64,
    /// From this probability on that a link fails within the horizon it is left, 0 to 1; 1: never.
    pub leave: f64,
    /// So many intervals in a row have to say so.
    pub confirm: u32,
    /// After so many better intervals in a row it is over.
    pub calm: u32,
    /// A latency counts as worse from this factor of the usual one on …
    pub worse_factor: f64,
    /// … and this many milliseconds above it: a few microseconds on a cable are nothing to act upon, however unusual they are.
    pub worse_ms: f64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { mistrust: 0.9, leave: 0.8, confirm: 2, calm: 4, worse_factor: 1.5, worse_ms: 10.0 }
    }
}

impl JudgeConfig {
    /// Whether a latency is so much worse than the usual one that it matters. `beside_usual`: both in milliseconds, once they are known.
    pub fn is_worse(&self, beside_usual: Option<(f64, f64)>) -> bool {
        let worse = |(latest, usual)| latest >= usual * self.worse_factor && latest >= usual + self.worse_ms;
        beside_usual.is_some_and(worse)
    }
}

/// What one interval says, as far as it goes. `worse`: whether the latency is so much worse that it matters.
pub fn advice_of(config: &JudgeConfig, verdict: &Verdict, outlook: &Outlook, worse: bool) -> Advice {
    let burst = verdict.findings.iter().find(|finding| finding.layer == Layer::Rules);
    let burst = burst.map_or(Confidence::NONE, |finding| finding.confidence).doubted(verdict.doubt);
    let fails = if worse { outlook.probability.doubted(verdict.doubt) } else { Confidence::NONE }.or_greater(burst);
    if config.leave < 1.0 && fails.value() >= config.leave {
        Advice::Leave
    } else if worse && verdict.degrading.value() >= config.mistrust || burst.value() >= config.mistrust {
        Advice::Mistrust
    } else {
        Advice::Keep
    }
}

/// Steadies the advice about one link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judge {
    advice: Advice,
    worse: u32,
    better: u32,
}

impl Judge {
    /// What one more interval says; gives what to do.
    pub fn on_interval(&mut self, config: &JudgeConfig, says: Advice) -> Advice {
        self.worse = if says > self.advice { self.worse + 1 } else { 0 };
        self.better = if says < self.advice { self.better + 1 } else { 0 };
        if self.worse >= config.confirm || self.better >= config.calm {
            *self = Self { advice: says, ..Self::default() };
        }
        self.advice
    }

    /// What to do.
    pub fn advice(&self) -> Advice {
        self.advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::health::{Finding, Rule};

    const CONFIG: JudgeConfig =
        JudgeConfig { mistrust: 0.9, leave: 0.8, confirm: 2, calm: 4, worse_factor: 1.5, worse_ms: 10.0 };

    fn verdict(degrading: f64, doubt: f64) -> Verdict {
        Verdict { degrading: Confidence::new(degrading), doubt: Confidence::new(doubt), ..Verdict::default() }
    }

    fn fails(probability: f64) -> Outlook {
        Outlook { probability: Confidence::new(probability), seconds: Some(2.0) }
    }

    #[test]
    fn what_is_unusual_and_hardly_worse_is_kept() {
        assert!(!CONFIG.is_worse(Some((0.3, 0.02))), "microseconds");
        assert!(!CONFIG.is_worse(Some((130.0, 100.0))), "less than half as much again");
        assert!(!CONFIG.is_worse(None), "nothing to compare with");
        assert!(CONFIG.is_worse(Some((60.0, 20.0))));
        let odd = verdict(0.99, 0.0);
        assert_eq!(advice_of(&CONFIG, &odd, &Outlook::default(), false), Advice::Keep);
        assert_eq!(advice_of(&CONFIG, &odd, &Outlook::default(), true), Advice::Mistrust);
    }

    #[test]
    fn a_predicted_failure_is_left_unless_that_is_turned_off_or_the_node_doubts_itself() {
        assert_eq!(advice_of(&CONFIG, &verdict(0.95, 0.0), &fails(0.9), true), Advice::Leave);
        assert_eq!(advice_of(&CONFIG, &verdict(0.95, 0.5), &fails(0.9), true), Advice::Mistrust);
        let never = JudgeConfig { leave: 1.0, ..CONFIG };
        assert_eq!(advice_of(&never, &verdict(0.95, 0.0), &fails(1.0), true), Advice::Mistrust);
        // A link that was always slow is not failing.
        assert_eq!(advice_of(&CONFIG, &verdict(0.0, 0.0), &fails(0.9), false), Advice::Keep);
    }

    #[test]
    fn a_burst_of_errors_is_a_failure_to_come_whatever_the_latency() {
        let finding = Finding::new(Layer::Rules, Rule::ErrorBurst, Confidence::CERTAIN, &[]);
        let mut burst = verdict(1.0, 0.0);
        burst.findings.push(finding);
        assert_eq!(advice_of(&CONFIG, &burst, &Outlook::default(), false), Advice::Leave);
    }

    #[test]
    fn one_interval_changes_nothing() {
        let mut judge = Judge::default();
        let mut says = |advice| judge.on_interval(&CONFIG, advice);
        assert_eq!(says(Advice::Mistrust), Advice::Keep);
        assert_eq!(says(Advice::Keep), Advice::Keep);
        assert_eq!(says(Advice::Mistrust), Advice::Keep);
        assert_eq!(says(Advice::Leave), Advice::Leave, "the second in a row");
        for _ in 0..3 {
            assert_eq!(says(Advice::Keep), Advice::Leave);
        }
        assert_eq!(says(Advice::Keep), Advice::Keep, "the fourth");
    }
}
