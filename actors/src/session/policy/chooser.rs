//! What a session asks for a link, and what the replay of recorded links judges: policies, damping, what stood before and what was
//! learnt, in one machine. Pure.

use std::time::Instant;

use bowline_messages::{LinkId, MessageClass, PolicyName};

use super::super::room;
use super::thompson::Random;
use super::{Candidate, Choice, Damping, Learned, Needs, Request, Requirements, Standing, Tuning, Worth, policy};

/// Classes of messages.
const CLASSES: usize = MessageClass::ALL.len();

/// For what a link is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The policy that decides.
    pub policy: PolicyName,
    /// The class of the message.
    pub class: MessageClass,
    /// Its size in bytes, when it is one message.
    pub bytes: Option<usize>,
    /// The message asked for this policy itself: what its class goes by is another matter.
    pub apart: bool,
}

/// Chooses links for the messages of one session.
#[derive(Debug)]
pub struct Chooser {
    damping: Damping,
    tuning: Tuning,
    needs: Needs,
    standing: [Option<Standing>; CLASSES],
    /// The same for messages that asked for a policy themselves, by the one that was asked for last.
    apart: [Option<(PolicyName, Standing)>; CLASSES],
    /// Kept up from the first time that a learning policy is asked.
    learned: Option<Box<Learned>>,
    nothing: Learned,
    random: Random,
    turn: u64,
}

impl Chooser {
    /// Nothing chosen yet. `seed`: of the policies that draw.
    pub fn new(damping: Damping, needs: Needs, seed: u64) -> Self {
        let (standing, nothing) = ([None; CLASSES], Learned::default());
        let tuning = Tuning::default();
        let apart = [None; CLASSES];
        Self { damping, tuning, needs, standing, apart, learned: None, nothing, random: Random(seed), turn: 0 }
    }

    /// The same with other numbers than those that were chosen on recorded links.
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { tuning, ..self }
    }

    /// Against flapping.
    pub fn damping(&self) -> &Damping {
        &self.damping
    }

    /// The links for a message now. The second value: the link that was left, when the choice is another than before.
    pub fn choose(&mut self, now: Instant, wanted: Wanted, links: &[Candidate]) -> (Choice, Option<LinkId>) {
        if policy(wanted.policy).learns() {
            let learned = self.learned.get_or_insert_default();
            learned.update(now, &self.tuning.hope, links);
            if wanted.policy == PolicyName::PredictiveOptimal {
                let binding = binding(&self.needs, wanted);
                in_question(&binding, links, |links| learned.optimise(now, wanted.class, links));
            }
        }
        self.random.next();
        self.turn = self.turn.wrapping_add(1);
        let choice = self.look(now, wanted, links);
        let standing = self.stands(&wanted);
        let Some(link) = choice.links[0].filter(|link| standing.is_none_or(|s| s.link != *link)) else {
            return (choice, None);
        };
        let stands = Standing { link, since: now };
        if wanted.apart {
            self.apart[wanted.class.index()] = Some((wanted.policy, stands));
            return (choice, None);
        }
        let left = self.standing[wanted.class.index()].replace(stands);
        (choice, left.map(|left| left.link).filter(|_| !policy(wanted.policy).spreads()))
    }

    /// The last choice for messages of this kind. One message that asks for another policy changes nothing for the others of its class.
    fn stands(&self, wanted: &Wanted) -> Option<Standing> {
        let class = wanted.class.index();
        if wanted.apart {
            self.apart[class].filter(|(policy, _)| *policy == wanted.policy).map(|(_, standing)| standing)
        } else {
            self.standing[class]
        }
    }

    /// The link that stands for a class: the last choice.
    pub fn standing(&self, class: MessageClass) -> Option<LinkId> {
        self.standing[class.index()].map(|standing| standing.link)
    }

    /// The links that a message would take now. Changes nothing.
    pub fn look(&self, now: Instant, wanted: Wanted, links: &[Candidate]) -> Choice {
        let request = self.request(now, wanted);
        let binding = binding(&self.needs, wanted);
        in_question(&binding, links, |links| policy(wanted.policy).choose(&request, links))
    }

    /// How good each link is for a message now, in their order: those in question among each other, the others among all.
    pub fn worths(&self, now: Instant, wanted: Wanted, links: &[Candidate]) -> Vec<Worth> {
        let (policy, request) = (policy(wanted.policy), self.request(now, wanted));
        let binding = binding(&self.needs, wanted);
        in_question(&binding, links, |open| {
            let worth = |(at, link): (usize, &Candidate)| {
                let worth = match open.iter().position(|other| other.link == link.link) {
                    Some(place) => policy.worth(&request, open, place),
                    None => policy.worth(&request, links, at),
                };
                if binding.missed_by(link) { worth.missing() } else { worth }
            };
            links.iter().enumerate().map(worth).collect()
        })
    }

    /// Whether such messages may not go over a link now: it misses what they need, and another meets all of it.
    pub fn bars(&self, wanted: Wanted, link: LinkId, links: &[Candidate]) -> bool {
        let binding = binding(&self.needs, wanted);
        links.iter().any(|c| c.link == link && binding.missed_by(c)) && binding.are_met(links)
    }

    fn request(&self, now: Instant, wanted: Wanted) -> Request<'_> {
        let need = self.needs.of(wanted.class);
        Request {
            now,
            class: wanted.class,
            bytes: wanted.bytes,
            standing: self.stands(&wanted),
            damping: &self.damping,
            tuning: &self.tuning,
            requirements: &need.requirements,
            weights: &need.weights,
            learned: self.learned.as_deref().unwrap_or(&self.nothing),
            random: self.random.0,
            turn: self.turn,
        }
    }

    /// Whether a class uses a link now.
    pub fn uses(&self, link: LinkId) -> bool {
        self.standing.iter().flatten().any(|standing| standing.link == link)
    }

    /// Classes that chose a link stand on another again, as before.
    pub fn put_back(&mut self, now: Instant, classes: impl Iterator<Item = MessageClass>, from: LinkId, to: LinkId) {
        for class in classes {
            let standing = &mut self.standing[class.index()];
            *standing = standing.map(|s| if s.link == from { Standing { link: to, since: now } } else { s });
        }
    }

    /// A link is gone: its choices stand no more, and what was learnt about it is forgotten.
    pub fn forget(&mut self, link: LinkId) {
        for standing in &mut self.standing {
            *standing = standing.filter(|s| s.link != link);
        }
        for apart in &mut self.apart {
            *apart = apart.filter(|(_, standing)| standing.link != link);
        }
        if let Some(learned) = &mut self.learned {
            learned.forget(link);
        }
    }
}

/// What binds this policy for messages of this class: all, where it goes by requirements, else what was set.
fn binding(needs: &Needs, wanted: Wanted) -> Requirements {
    let requirements = needs.of(wanted.class).requirements;
    if policy(wanted.policy).goes_by_requirements() { requirements } else { requirements.set() }
}

/// Asks for something among the links that are in question, whatever the policy: those that meet every requirement, as long as one of
/// them is not suspected; else all.
fn in_question<T>(requirements: &Requirements, links: &[Candidate], ask: impl FnOnce(&[Candidate]) -> T) -> T {
    if !links.iter().any(|link| requirements.missed_by(link)) || !requirements.are_met(links) {
        return ask(links);
    }
    let mut open = room::in_question();
    open.extend(links.iter().filter(|link| !requirements.missed_by(link)));
    let answer = ask(&open);
    room::give_in_question(open);
    answer
}
