//! What was asked of the ledger, what it answered, and what it says in the end. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::{Act, LEFT, LIVES, NAMES, NODES, node_of};
use super::protocol::Outcome;
use crate::cli::bench::measure::rounded;

/// What is in each purse at first: more than anybody can move in a day.
pub const PURSE: u64 = 1_000_000;

/// The account that the moves of a life come from: what is missing in it was moved.
pub fn purse(life: usize) -> String {
    let again = if life < NODES { "" } else { " again" };
    format!("purse of {}{again}", NAMES[node_of(life)])
}

/// The account of a node that moves go to.
pub fn pot(node: usize) -> String {
    format!("pot of {}", NAMES[node])
}

/// The moves of one life, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moves {
    /// Asked for.
    pub asked: u64,
    /// Done, by the answer.
    pub done: u64,
    /// Not accepted.
    pub refused: u64,
    /// Nobody can tell.
    pub unknown: u64,
    /// The ledger said no.
    pub denied: u64,
}

impl Moves {
    /// Those that may have been done or not: nobody can tell, or the one who asked died before it heard.
    const fn open(&self) -> u64 {
        self.asked.saturating_sub(self.done + self.refused + self.denied)
    }
}

/// Something that was done, when, and when it had its effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    /// What.
    pub what: &'static str,
    /// What had to come of it.
    pub effect: &'static str,
    /// When, in seconds from the beginning.
    pub at_s: f64,
    /// Milliseconds until then; `null`: it did not come.
    pub effect_ms: Option<f64>,
    /// The longest time from then on in which no node of the larger cluster had an answer, in milliseconds.
    pub pause_ms: Option<f64>,
    #[serde(skip)]
    act: Act,
    #[serde(skip)]
    mono_ns: u64,
}

/// The holder of a lease was seen under it from one moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    node: usize,
    term: u64,
    from: u64,
    to: u64,
}

/// Everything that is written down.
#[derive(Debug, Clone, Default)]
pub struct Books {
    moves: [Moves; LIVES],
    /// Moments of answers in the larger cluster.
    answers: Vec<u64>,
    held: Vec<Held>,
    done: Vec<Done>,
    /// What each node says in the end.
    pub ledgers: BTreeMap<usize, BTreeMap<String, u64>>,
    /// Links that were made by healing, each once.
    pub healing: std::collections::BTreeSet<(usize, usize)>,
    /// When there was a way across besides the bridge node, for the first time.
    second_way: Option<u64>,
    /// Why it came to an early end.
    pub failure: Option<String>,
}

/// The closing report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Closing {
    /// Processes.
    pub nodes: usize,
    /// Links that healing made, each once, by the names of their ends.
    pub healing_links: Vec<String>,
    /// Milliseconds from the beginning until the network had made itself a second way across; `null`: it did not.
    pub second_way_ms: Option<f64>,
    /// What was done, and what came of it.
    pub steps: Vec<Done>,
    /// Moves that nodes asked for.
    pub asked: u64,
    /// Those that were answered: done.
    pub answered: u64,
    /// Those that were not accepted, because the side was paused.
    pub refused: u64,
    /// Those of which nobody can tell: accepted, and the answer never came.
    pub unknown: u64,
    /// The longest time in which no node of the larger cluster had an answer, in milliseconds.
    pub longest_pause_ms: Option<f64>,
    /// What was in all accounts at first.
    pub sum_before: u64,
    /// What is in them in the end, if all nodes say the same.
    pub sum_after: Option<u64>,
    /// Times at which two nodes held a lease.
    pub double_active: usize,
    /// What is not as it should be.
    pub violations: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// Why it came to an early end, if it did.
    pub failure: Option<String>,
}

impl Books {
    /// A life asks for a move.
    pub fn on_asked(&mut self, life: usize) {
        self.moves[life].asked += 1;
    }

    /// It hears what came of one.
    pub fn on_moved(&mut self, life: usize, mono_ns: u64, outcome: Outcome) {
        let moves = &mut self.moves[life];
        match outcome {
            Outcome::Done => {
                moves.done += 1;
                if LEFT.contains(&life) {
                    self.answers.push(mono_ns);
                }
            }
            Outcome::Refused => moves.refused += 1,
            Outcome::Unknown => moves.unknown += 1,
            Outcome::Denied => moves.denied += 1,
        }
    }

    /// A node says whether it holds a lease.
    pub fn on_holds(&mut self, node: usize, mono_ns: u64, holds: Option<u64>) {
        let Some(term) = holds else { return };
        if let Some(last) = self.held.iter_mut().rev().find(|held| held.node == node && held.term == term) {
            last.to = mono_ns;
        } else {
            self.held.push(Held { node, term, from: mono_ns, to: mono_ns });
        }
    }

    /// There is a way across besides the bridge node.
    pub fn on_second_way(&mut self, mono_ns: u64) {
        self.second_way.get_or_insert(mono_ns);
    }

    /// Something is done.
    pub fn on_act(&mut self, act: Act, at: Duration, mono_ns: u64) {
        let at_s = rounded(at.as_secs_f64());
        let (what, effect) = (act.name(), act.effect());
        self.done.push(Done { what, effect, at_s, effect_ms: None, pause_ms: None, act, mono_ns });
    }

    /// What was done last has had its effect.
    pub fn on_effect(&mut self, mono_ns: u64) {
        if let Some(last) = self.done.last_mut() {
            last.effect_ms = Some(rounded(mono_ns.saturating_sub(last.mono_ns) as f64 / 1e6));
        }
    }

    /// All moves together.
    pub fn total(&self) -> Moves {
        self.moves.iter().fold(Moves::default(), |sum, moves| Moves {
            asked: sum.asked + moves.asked,
            done: sum.done + moves.done,
            refused: sum.refused + moves.refused,
            unknown: sum.unknown + moves.unknown,
            denied: sum.denied + moves.denied,
        })
    }

    /// The longest time without an answer in the larger cluster between two moments, in milliseconds.
    fn longest_pause(&self, from: u64, until: u64) -> Option<f64> {
        let within = self.answers.iter().copied().filter(|at| (from..until).contains(at));
        let mut moments: Vec<u64> = within.collect();
        moments.sort_unstable();
        // What began before and ends after counts from here to there.
        let moments: Vec<u64> =
            std::iter::once(from).chain(moments).chain((until < u64::MAX).then_some(until)).collect();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().map(|pause| rounded(pause as f64 / 1e6))
    }

    /// What is not as it should be in the ledger.
    fn audit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let missing: Vec<&str> =
            (0..NODES).filter(|node| !self.ledgers.contains_key(node)).map(|node| NAMES[node]).collect();
        if !missing.is_empty() {
            wrong.push(format!("{} did not say what the ledger says", missing.join(" ")));
        }
        let Some((first, ledger)) = self.ledgers.first_key_value() else { return wrong };
        for (node, other) in self.ledgers.iter().filter(|(_, other)| *other != ledger) {
            wrong.push(format!("{} and {} do not say the same: {ledger:?}, {other:?}", NAMES[*first], NAMES[*node]));
        }
        let sum: u64 = ledger.values().sum();
        if sum != sum_before() {
            wrong.push(format!("{sum} in all accounts, where {} have to be", sum_before()));
        }
        for (life, moves) in self.moves.iter().enumerate() {
            let moved = PURSE.saturating_sub(ledger.get(&purse(life)).copied().unwrap_or(0));
            let most = moves.done + moves.open();
            if !(moves.done..=most).contains(&moved) {
                let (purse, done) = (purse(life), moves.done);
                wrong.push(format!(
                    "{moved} were moved from the {purse}, where {done} were answered and {most} asked for"
                ));
            }
        }
        if self.total().denied > 0 {
            wrong.push(format!("the ledger denied {} moves", self.total().denied));
        }
        wrong
    }

    /// Pairs of holders whose times overlap.
    fn double_active(&self) -> usize {
        let pairs =
            self.held.iter().enumerate().flat_map(|(at, one)| self.held[..at].iter().map(move |two| (one, two)));
        pairs.filter(|(one, two)| one.node != two.node && one.from < two.to && two.from < one.to).count()
    }

    /// Balances them.
    pub fn close(self, took: Duration) -> Closing {
        let mut violations = if self.failure.is_none() { self.audit() } else { Vec::new() };
        let double_active = self.double_active();
        if double_active > 0 {
            violations.push(format!("two nodes held a lease at once, {double_active} times"));
        }
        let mut steps = self.done.clone();
        let ends: Vec<u64> = steps.iter().skip(1).map(|next| next.mono_ns).chain([u64::MAX]).collect();
        for (step, until) in steps.iter_mut().zip(ends) {
            if step.effect_ms.is_none() && self.failure.is_none() {
                violations.push(format!("after {}: it did not come about that {}", step.what, step.effect));
            }
            if !matches!(step.act, Act::Gather | Act::Stop) {
                step.pause_ms = self.longest_pause(step.mono_ns, until);
            }
        }
        let total = self.total();
        let link = |(one, other): &(usize, usize)| format!("{}-{}", NAMES[*one], NAMES[*other]);
        let mut sums = self.ledgers.values().map(|ledger| ledger.values().sum::<u64>());
        let sum_after = sums.next().filter(|first| self.ledgers.len() == NODES && sums.all(|sum| sum == *first));
        Closing {
            nodes: NODES,
            second_way_ms: self
                .second_way
                .zip(steps.first())
                .map(|(at, first)| rounded(at.saturating_sub(first.mono_ns) as f64 / 1e6)),
            healing_links: self.healing.iter().map(link).collect(),
            asked: total.asked,
            answered: total.done,
            refused: total.refused,
            unknown: total.open(),
            longest_pause_ms: steps.iter().filter_map(|step| step.pause_ms).reduce(f64::max),
            steps,
            sum_before: sum_before(),
            sum_after,
            double_active,
            violations,
            seconds: rounded(took.as_secs_f64()),
            failure: self.failure,
        }
    }
}

/// What is in all accounts at first.
pub fn sum_before() -> u64 {
    PURSE * LIVES as u64
}

impl Closing {
    /// Whether everything is as it should be.
    pub fn is_intact(&self) -> bool {
        self.failure.is_none() && self.violations.is_empty()
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let ms = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
        let mut lines = Vec::new();
        for step in &self.steps {
            let pause = step.pause_ms.map(|pause| format!("; larger side: longest wait {}", ms(Some(pause))));
            let pause = pause.unwrap_or_default();
            lines.push(format!(
                "{:>5.1} s  {:<38} {}: {}{pause}",
                step.at_s,
                step.what,
                step.effect,
                ms(step.effect_ms)
            ));
        }
        let none = || "none".to_owned();
        let healing = if self.healing_links.is_empty() { none() } else { self.healing_links.join(" ") };
        lines.push(format!("links made by healing: {healing}; a second way across after {}", ms(self.second_way_ms)));
        let Self { asked, answered, refused, unknown, .. } = self;
        lines.push(format!("moves: {asked} asked for, {answered} answered, {refused} refused, {unknown} not known"));
        let after = self.sum_after.map_or_else(|| "not known".to_owned(), |sum| sum.to_string());
        lines.push(format!("ledger: {} before, {after} after", self.sum_before));
        lines.extend(self.violations.iter().map(|violation| format!("WRONG   {violation}")));
        lines.extend(self.failure.iter().map(|failure| format!("FAILED  {failure}")));
        if self.is_intact() {
            lines.push("The ledger is intact: the same on all eight nodes, every answered move in it once.".to_owned());
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
