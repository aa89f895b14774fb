//! The machine of one node: the graph and its figures in, requests and links out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bowline_messages::config::{HealingConfig, TopologyConfig, WatchConfig};
use bowline_messages::topology::{HealingPurpose, HealingStep};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::outline::{FAR, Outline};
use super::plan::{Need, Planned, allowed};
use super::stamps::{Stamp, Stamps};
use super::wire::Refused;
use crate::bucket::Bucket;
use crate::topology::link_state::Authority;
use crate::topology::survey::{Figures, Survey};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum HealingOutput {
    /// Send a datagram to a neighbour.
    Send {
        /// The neighbour.
        to: PeerId,
        /// The datagram.
        payload: Bytes,
    },
    /// Keep a session with this peer until it is released. Both ends are told.
    Connect {
        /// The peer.
        peer: PeerId,
        /// Where it says it can be reached; what is known of it besides counts as well.
        addresses: Vec<String>,
    },
    /// The session with this peer is not needed for healing any more: end it unless it is wanted for something else.
    Release {
        /// The peer.
        peer: PeerId,
    },
    /// What became of a link.
    Step {
        /// Its other end.
        peer: PeerId,
        /// What it is for.
        purpose: HealingPurpose,
        /// What happened.
        step: HealingStep,
    },
    /// What a link changed, by the figure that it is for.
    Measured {
        /// Its other end.
        peer: PeerId,
        /// What it is for.
        purpose: HealingPurpose,
        /// The figure when it was asked for.
        before: f64,
        /// The figure with it.
        after: f64,
    },
}

/// A request of this node that is not answered yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) purpose: HealingPurpose,
    pub(super) stamp: Stamp,
    pub(super) before: f64,
    pub(super) until: Instant,
}

/// A link that was agreed on.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) purpose: HealingPurpose,
    /// Whether this node asked for it: then it is the one that measures it and lets it go.
    pub(super) asked: bool,
    pub(super) before: f64,
    /// The bridge node that was worst when it was asked for.
    pub(super) around: Option<PeerId>,
    /// Until when it has to appear; none once it is there.
    pub(super) until: Option<Instant>,
    /// When it is to be measured; none once it was.
    pub(super) measure_at: Option<Instant>,
    pub(super) useless_since: Option<Instant>,
    /// Whether it is being undone: the other end was told, and lets go first. `until`: how long that is waited for.
    pub(super) leaving: bool,
}

/// Healing by one node; see the module.
pub struct Healing {
    pub(super) own: PeerId,
    pub(super) config: HealingConfig,
    pub(super) limits: WatchConfig,
    pub(super) authority: Rc<dyn Authority>,
    pub(super) outputs: VecDeque<HealingOutput>,
    pub(super) refused: BTreeMap<Refused, u64>,
    pub(super) neighbours: BTreeSet<PeerId>,
    pub(super) addresses: Vec<String>,
    pub(super) power: f64,
    pub(super) stamp: Stamp,
    pub(super) open: BTreeMap<PeerId, Open>,
    pub(super) links: BTreeMap<PeerId, Made>,
    /// Peers that are left alone, and until when.
    pub(super) avoided: BTreeMap<PeerId, Instant>,
    /// Peers that a link with was undone, and until when no other is granted.
    pub(super) undone: BTreeMap<PeerId, Instant>,
    /// What each node said last.
    pub(super) heard: Stamps,
    /// What each neighbour may still send.
    pub(super) budgets: BTreeMap<PeerId, Budget>,
    /// Peers that were granted a link and did not make it, and until when they are granted none.
    pub(super) lapsed: BTreeMap<PeerId, Instant>,
    pub(super) outline: Arc<Outline>,
    pub(super) needs: Vec<Need>,
    /// What this node is to ask for.
    planned: Vec<Planned>,
    pub(super) figures: Figures,
    pub(super) review_at: Instant,
    structure: u64,
    plan_at: Option<Instant>,
    changed_since: Option<Instant>,
    needed_since: Option<Instant>,
    pub(super) rng: ChaCha8Rng,
}

/// What a neighbour may send, in requests: what is passed on for it has no part in what is for this node, so neither can use up the other.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) passed_on: Bucket,
    pub(super) heard: Bucket,
}

impl Budget {
    fn new(now: Instant, config: &HealingConfig) -> Self {
        let per_second = f64::from(config.relayed_per_second);
        let full = Bucket::new(now, per_second, per_second);
        Self { passed_on: full, heard: full }
    }
}

impl Healing {
    /// A node that made no links yet. Its signatures are for this concern only.
    pub fn new(
        now: Instant,
        own: PeerId,
        incarnation: Incarnation,
        config: &TopologyConfig,
        authority: Rc<dyn Authority>,
        seed: u64,
    ) -> Self {
        let heard = Stamps::new(&config.link_state);
        let (limits, config) = (config.watch.clone(), config.healing.clone());
        Self {
            own,
            limits,
            authority,
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
            neighbours: BTreeSet::new(),
            addresses: Vec::new(),
            power: 1.0,
            stamp: (incarnation.0, 0),
            open: BTreeMap::new(),
            links: BTreeMap::new(),
            avoided: BTreeMap::new(),
            undone: BTreeMap::new(),
            heard,
            budgets: BTreeMap::new(),
            lapsed: BTreeMap::new(),
            outline: Arc::default(),
            needs: Vec::new(),
            planned: Vec::new(),
            figures: Figures::default(),
            review_at: now + config.review_interval,
            structure: 0,
            plan_at: None,
            changed_since: None,
            needed_since: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            config,
        }
    }

    /// Who the neighbours are now: what is passed on goes to them only.
    pub fn on_neighbours(&mut self, now: Instant, neighbours: BTreeSet<PeerId>) {
        self.budgets.retain(|peer, _| neighbours.contains(peer));
        for peer in &neighbours {
            self.budgets.entry(*peer).or_insert_with(|| Budget::new(now, &self.config));
        }
        self.neighbours = neighbours;
        self.on_links(now);
    }

    /// Power that is left (0 to 1), and where this node can be reached.
    pub fn on_facts(&mut self, power: f64, addresses: Vec<String>) {
        self.power = power;
        self.addresses = addresses;
        self.addresses.retain(|address| address.len() <= super::wire::ADDRESS_BYTES_MAX);
        self.addresses.truncate(super::wire::ADDRESSES_MAX);
    }

    /// A new look at the graph.
    pub fn on_survey(&mut self, now: Instant, survey: &Survey) {
        self.figures = survey.figures;
        self.needs.clone_from(&survey.needs);
        self.planned.clone_from(&survey.planned);
        if !Arc::ptr_eq(&self.outline, &survey.outline) {
            self.outline = Arc::clone(&survey.outline);
            let outline = &self.outline;
            self.heard.on_graph(now, |peer| outline.number(peer).is_some());
        }
        if self.needs.is_empty() {
            (self.needed_since, self.plan_at, self.changed_since) = (None, None, None);
        } else {
            self.needed_since.get_or_insert(now);
            if self.structure != survey.structure {
                // Plans of nodes agree once their graphs do.
                let since = *self.changed_since.get_or_insert(now);
                self.plan_at = Some((now + self.config.settle).min(since + self.config.settle_most).max(now));
            } else if self.plan_at.is_none() {
                self.plan_at = Some(now + self.config.settle);
            }
        }
        self.structure = survey.structure;
        self.measure(now);
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        self.give_up(now);
        if self.plan_at.is_some_and(|at| at <= now) {
            (self.plan_at, self.changed_since) = (None, None);
            self.act(now);
        }
    }

    /// The next moment at which something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let open = self.open.values().map(|open| open.until);
        let made = self.links.values().filter_map(|made| made.until);
        open.chain(made).chain(self.plan_at).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HealingOutput> {
        self.outputs.pop_front()
    }

    /// Peers with which there is a link for healing, or soon will be: what is announced of these says so.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.links.keys().copied()
    }

    /// Links that this node would take on.
    pub fn spare(&self) -> u8 {
        if !self.config.enabled || self.power < self.config.power_least {
            return 0;
        }
        let coming = self.links.keys().filter(|peer| !self.neighbours.contains(peer)).count() + self.open.len();
        let degree = self.config.degree_max.saturating_sub(self.neighbours.len() + coming);
        let links = self.config.links_max.saturating_sub(self.links.len() + self.open.len());
        u8::try_from(degree.min(links)).unwrap_or(u8::MAX)
    }

    /// What was refused so far.
    pub fn refused(&self) -> &BTreeMap<Refused, u64> {
        &self.refused
    }

    /// Asks for the planned links that are this node's own.
    fn act(&mut self, now: Instant) {
        self.avoided.retain(|_, until| *until > now);
        self.undone.retain(|_, until| *until > now);
        self.lapsed.retain(|_, until| *until > now);
        for link in self.planned.clone() {
            self.ask(now, link.asked, link.purpose);
        }
        let patient = self.needed_since.is_some_and(|since| now < since + self.config.patience);
        if !patient && self.open.is_empty() {
            self.try_at_random(now);
        }
    }

    /// What the plan names does not come about, so somebody else has to try: each node as likely that about one does at a time.
    fn try_at_random(&mut self, now: Instant) {
        let affordable = |need: &&Need| allowed(need, &self.outline, &self.config) > 0;
        let need = self.needs.iter().find(affordable).cloned();
        let Some((need, own)) = need.zip(self.outline.number(&self.own)) else { return };
        let own_distance = self.outline.distances(&[own], None);
        let open = |node: &u32| {
            let at = *node as usize;
            self.outline.spare[at] > 0 && own_distance[at] != FAR && own_distance[at] > 1
        };
        let all = 0..self.outline.len() as u32;
        let (candidates, others): (Vec<u32>, usize) = match &need {
            Need::Redundancy(around) | Need::Relief(around) => {
                let Some(around) = self.outline.number(around) else { return };
                let pieces = self.outline.pieces_without(around);
                let Some(mine) = pieces.iter().position(|piece| piece.binary_search(&own).is_ok()) else { return };
                // Of the largest piece nobody tries: there are too many there.
                if mine == 0 {
                    return;
                }
                (pieces[0].iter().copied().filter(open).collect(), pieces[mine].len())
            }
            Need::Shortcut => {
                let far = own_distance.iter().copied().filter(|distance| *distance != FAR).max().unwrap_or(0) / 2;
                let far = |node: &u32| own_distance[*node as usize] > far;
                (all.filter(open).filter(far).collect(), self.outline.len())
            }
            Need::Local => {
                let near = |node: &u32| own_distance[*node as usize] == 2;
                (all.filter(open).filter(near).collect(), self.outline.len())
            }
        };
        if candidates.is_empty() || self.rng.random_range(0..others.max(1)) > 0 {
            return;
        }
        let chosen = candidates[self.rng.random_range(0..candidates.len())];
        let peer = self.outline.peers[chosen as usize];
        self.ask(now, peer, need.purpose());
    }

    /// Gives up what took too long.
    fn give_up(&mut self, now: Instant) {
        let late: Vec<PeerId> = self.open.iter().filter(|(_, open)| open.until <= now).map(|(peer, _)| *peer).collect();
        for peer in late {
            if let Some(open) = self.open.remove(&peer) {
                self.avoid(now, peer);
                self.step(peer, open.purpose, HealingStep::TimedOut);
            }
        }
        let gone = |made: &Made| made.until.is_some_and(|until| until <= now);
        let late: Vec<PeerId> = self.links.iter().filter(|(_, made)| gone(made)).map(|(peer, _)| *peer).collect();
        for peer in late {
            let Some(made) = self.links.remove(&peer) else { continue };
            if made.leaving {
                self.let_go(now, peer, made.purpose);
            } else {
                self.avoid(now, peer);
                if !made.asked {
                    self.lapsed.insert(peer, now + self.config.refused_pause);
                }
                self.step(peer, made.purpose, HealingStep::TimedOut);
                self.outputs.push_back(HealingOutput::Release { peer });
            }
        }
    }

    /// Links that appeared, and links that are gone.
    fn on_links(&mut self, now: Instant) {
        let mut steps = Vec::new();
        for (peer, made) in &mut self.links {
            match (self.neighbours.contains(peer), made.until) {
                (true, Some(_)) if made.leaving => {}
                (false, Some(_)) if made.leaving => steps.push((*peer, made.purpose, HealingStep::Undone)),
                (true, Some(_)) => {
                    made.until = None;
                    made.measure_at = Some(now + self.config.measure_after);
                    steps.push((*peer, made.purpose, HealingStep::Linked));
                }
                (false, None) => steps.push((*peer, made.purpose, HealingStep::Lost)),
                (true, None) | (false, Some(_)) => {}
            }
        }
        for (peer, purpose, step) in steps {
            match step {
                HealingStep::Undone => self.let_go(now, peer, purpose),
                HealingStep::Lost => {
                    self.links.remove(&peer);
                    self.outputs.push_back(HealingOutput::Release { peer });
                    self.step(peer, purpose, step);
                }
                HealingStep::Asked
                | HealingStep::Granted
                | HealingStep::Refused(_)
                | HealingStep::TimedOut
                | HealingStep::Linked => self.step(peer, purpose, step),
            }
        }
    }

    pub(super) fn avoid(&mut self, now: Instant, peer: PeerId) {
        let most = self.outline.len().max(self.config.links_max + self.config.requests_open);
        if self.avoided.len() <= most {
            self.avoided.insert(peer, now + self.config.refused_pause);
        }
    }

    pub(super) fn step(&mut self, peer: PeerId, purpose: HealingPurpose, step: HealingStep) {
        self.outputs.push_back(HealingOutput::Step { peer, purpose, step });
    }
}

impl std::fmt::Debug for Healing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Healing")
            .field("own", &self.own)
            .field("needs", &self.needs)
            .field("open", &self.open)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}
