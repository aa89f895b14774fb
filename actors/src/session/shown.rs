//! What a session shows of its links: their state, their scores, and which of them each class would take. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use bowline_messages::link::LinkInfo;
use bowline_messages::session::{ClassScore, LinkChoice, LinkStatus};
use bowline_messages::{LinkId, MessageClass};

use super::machine::Session;
use super::path::Path;
use super::policy::Penalty;
use super::room;

impl Session {
    /// Each link as reports show it.
    pub fn link_statuses(&self, now: Instant) -> Vec<LinkStatus> {
        let mut scores = self.scores(now);
        let mut status = |path: &Path| LinkStatus {
            scores: scores.remove(&path.info.id).unwrap_or_default(),
            info: LinkInfo::clone(&path.info),
            state: path.state,
            stats: path.snapshot(),
            in_flight_bytes: path.window.in_flight(),
            window_bytes: path.window_bytes(),
            expected_delay: self.candidate(now, path, 0).delay,
            flap_penalty: self.failures(now, &path.info) / Penalty::FAILURES_MAX,
            opinion: self.opinion(path.info.id).cloned().map(Box::new),
            evidence: path.evidence.clone(),
        };
        self.paths.values().map(|path| status(path)).collect()
    }

    /// What each link is worth to the policy of each class.
    fn scores(&self, now: Instant) -> BTreeMap<LinkId, Vec<ClassScore>> {
        let mut scores: BTreeMap<LinkId, Vec<ClassScore>> = BTreeMap::new();
        for class in MessageClass::ALL {
            let candidates: Vec<_> = self.paths.values().map(|path| self.candidate(now, path, class.index())).collect();
            let worths = self.chooser.worths(now, self.wanted(class, None, None), &candidates);
            for (candidate, worth) in candidates.iter().zip(worths) {
                let score = ClassScore { class, rank: worth.rank(), score: worth.score() };
                scores.entry(candidate.link).or_default().push(score);
            }
        }
        scores
    }

    /// For each class the links that would carry its next message, and why.
    pub fn choices(&mut self, now: Instant) -> Vec<LinkChoice> {
        MessageClass::ALL
            .into_iter()
            .map(|class| {
                let name = self.config.policies.of(class);
                let wanted = self.wanted(class, None, None);
                let candidates = self.gather_candidates(now, class.index());
                let choice = self.chooser.look(now, wanted, &candidates);
                let choice = self.shown(wanted, choice, &candidates);
                room::give_candidates(candidates);
                let links = choice.links.into_iter().flatten().collect();
                LinkChoice { class, policy: name, links, rule: choice.rule.to_owned() }
            })
            .collect()
    }
}
