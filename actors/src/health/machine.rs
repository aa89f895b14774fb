//! The health of all links over one transport: sessions report, each link has a record, and what is made of it goes back. Pure.
//!
//! A link gets a record with the first report about it and loses it when nothing was reported for a while, so that idle links cost
//! nothing here (they are watched by their sessions' own probes). A record takes about 13 KiB once its windows are full.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::event::EventKind;
use bowline_messages::health::{
    Advice, Confidence, HealthReport, Layer, LinkName, LinkObserved, LinkOpinion, LinkTurn, Outlook, Turn,
};
use bowline_messages::{LinkId, PeerId, TransportKind};

use super::correlation::Correlator;
use super::judge::{Judge, JudgeConfig, advice_of};
use super::local::{LocalConfig, LocalHealth};
use super::millis;
use super::monitor::{Feed, LinkHealth, MonitorConfig};

/// How a transport's monitor behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthConfig {
    /// How each link is watched.
    pub monitor: MonitorConfig,
    /// When something is done about one.
    pub judge: JudgeConfig,
    /// When the node doubts itself.
    pub local: LocalConfig,
    /// Doubt that is worth an event, 0 to 1.
    pub doubt_told: f64,
    /// Falls of links within this time of each other may have one cause.
    pub together: Duration,
    /// From this confidence on a common cause is reported, 0 to 1.
    pub common_cause: f64,
    /// How often a session is told what is thought of a link, changes of the advice aside.
    pub tell: Duration,
    /// How often the monitor looks at its own clock, while it has records.
    pub tick: Duration,
    /// A link of which nothing was reported for this long has no record any more.
    pub forget: Duration,
    /// Records at most; links beyond that are not watched.
    pub links: usize,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            // Sessions report intervals of half a second: the trend is drawn through the last six seconds.
            monitor: MonitorConfig { feed: Feed::Intervals, trend_samples: 12, ..MonitorConfig::default() },
            judge: JudgeConfig::default(),
            local: LocalConfig::default(),
            doubt_told: 0.5,
            together: Duration::from_secs(1),
            common_cause: 0.6,
            tell: Duration::from_secs(1),
            tick: Duration::from_millis(500),
            forget: Duration::from_secs(60),
            links: 1_024,
        }
    }
}

/// What the monitor wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthOutput {
    /// Tell the session with a peer.
    Tell(PeerId, Box<LinkOpinion>),
    /// Something happened that others want to know.
    Emit(EventKind),
    /// A layer says something of a link of which it said nothing in the interval before: for the metrics.
    Found(Layer),
}

#[derive(Debug)]
struct LinkRecord {
    health: LinkHealth,
    judge: Judge,
    seen: Instant,
    told: Option<Instant>,
    saying: BTreeSet<Layer>,
}

/// The health of all links over one transport.
#[derive(Debug)]
pub struct TransportHealth {
    transport: TransportKind,
    config: HealthConfig,
    records: BTreeMap<LinkName, Box<LinkRecord>>,
    local: LocalHealth,
    doubted: bool,
    tick_at: Option<Instant>,
    outputs: VecDeque<HealthOutput>,
}

impl TransportHealth {
    /// Nothing is known yet.
    pub fn new(transport: TransportKind, config: HealthConfig) -> Self {
        Self {
            transport,
            local: LocalHealth::new(config.local),
            config,
            records: BTreeMap::new(),
            doubted: false,
            tick_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HealthOutput> {
        self.outputs.pop_front()
    }

    /// When [`TransportHealth::on_timeout`] wants to run: only while there are records.
    pub fn deadline(&self) -> Option<Instant> {
        self.tick_at
    }

    /// How many links have a record.
    pub fn links(&self) -> usize {
        self.records.len()
    }

    /// Whether a link of a peer has a record.
    pub fn knows(&self, peer: &PeerId) -> bool {
        // Asked for each peer again and again: its links stand together.
        let of = |link| LinkName { peer: *peer, link: LinkId(link) };
        self.records.range(of(u32::MIN)..=of(u32::MAX)).next().is_some()
    }

    /// So many of so many places of the monitor's mailbox are taken: what does not get through is not seen.
    pub fn on_mailbox(&mut self, taken: usize, capacity: usize) {
        self.local.on_mailbox(taken, capacity);
    }

    /// A session reports. `correlator`: shared by the monitors of all transports, since links over one interface may be of several.
    pub fn on_report(&mut self, now: Instant, report: &HealthReport, correlator: &mut Correlator<LinkName>) {
        for observed in &report.observed {
            let name = LinkName { peer: report.peer, link: observed.link };
            if self.records.len() < self.config.links || self.records.contains_key(&name) {
                self.observe(now, name, observed, correlator);
            }
        }
        for turn in &report.turns {
            self.on_turn(now, LinkName { peer: report.peer, link: turn.link }, turn, correlator);
        }
        if self.tick_at.is_none() && !self.records.is_empty() {
            self.set_tick(now);
        }
    }

    fn set_tick(&mut self, now: Instant) {
        let due = now + self.config.tick;
        self.tick_at = Some(due);
        self.local.on_timer_set(due);
    }

    fn observe(
        &mut self,
        now: Instant,
        name: LinkName,
        observed: &LinkObserved,
        correlator: &mut Correlator<LinkName>,
    ) {
        let (config, medium) = (self.config, observed.medium);
        let record = self.records.entry(name).or_insert_with(|| {
            correlator.on_link(name, observed.interface.as_deref(), medium);
            Box::new(LinkRecord {
                health: LinkHealth::new(now, medium, config.monitor),
                judge: Judge::default(),
                seen: now,
                told: None,
                saying: BTreeSet::new(),
            })
        });
        record.seen = now;
        let latencies: Vec<f64> = observed.round_trips.iter().filter_map(|trip| trip.took.map(millis)).collect();
        let missed = observed.round_trips.len() - latencies.len();
        let silent = observed.waiting && observed.round_trips.is_empty();
        record.health.on_interval(now, &latencies, missed.max(usize::from(silent)));
        // What is missed is an error of the link as well: it comes in bursts when the link is about to go.
        let errors = (observed.errors as usize).saturating_add(missed).min(config.monitor.errors);
        (0..errors).for_each(|_| record.health.on_error(now));
        observed.rate.into_iter().for_each(|rate| record.health.on_rate(rate));
        let (before, opinion) = (record.judge.advice(), record.judged(now, name, &config, self.local.doubt(now)));
        let said: BTreeSet<Layer> =
            opinion.findings.iter().map(|f| f.layer).filter(|l| *l != Layer::Arrivals).collect();
        let news = said.difference(&record.saying).copied().map(HealthOutput::Found);
        self.outputs.extend(news);
        record.saying = said;
        let due = record.told.is_none_or(|told| now.saturating_duration_since(told) >= config.tell);
        if due || before != opinion.advice {
            record.told = Some(now);
            self.outputs.push_back(HealthOutput::Tell(name.peer, Box::new(opinion)));
        }
    }

    fn on_turn(&mut self, now: Instant, name: LinkName, turn: &LinkTurn, correlator: &mut Correlator<LinkName>) {
        match turn.turn {
            Turn::Gone => {
                self.records.remove(&name);
                correlator.on_removed(now, name);
            }
            Turn::Rose => {
                correlator.on_up(name);
                match self.records.get_mut(&name) {
                    Some(record) => record.health.on_common_cause(None),
                    // It is idle: it is watched again once something is reported about it.
                    None => correlator.on_removed(now, name),
                }
            }
            Turn::Fell => {
                correlator.on_link(name, turn.interface.as_deref(), turn.medium);
                let Some(cause) = correlator.on_fall(now, name) else { return };
                self.outputs.push_back(HealthOutput::Found(Layer::Correlation));
                for link in &cause.links {
                    if let Some(record) = self.records.get_mut(link) {
                        record.health.on_common_cause(Some(cause.finding.clone()));
                    }
                }
                let (shared, links, finding) = (cause.shared, cause.links, cause.finding);
                self.outputs.push_back(HealthOutput::Emit(EventKind::CommonCause { shared, links, finding }));
            }
        }
    }

    /// The deadline was reached; that it comes late says how starved this node is. `correlator`: as for reports; it watches no link
    /// that has no record any more, or idle ones would take the places of others and be counted among those that did not fall.
    pub fn on_timeout(&mut self, now: Instant, correlator: &mut Correlator<LinkName>) {
        let Some(due) = self.tick_at.filter(|due| *due <= now) else { return };
        self.local.on_tick(now);
        let doubt = self.local.doubt(now);
        let doubts = doubt.value() >= self.config.doubt_told;
        if doubts && !self.doubted {
            let late = now.saturating_duration_since(due);
            let transport = self.transport.clone();
            self.outputs.push_back(HealthOutput::Emit(EventKind::LocalDoubt { transport, doubt, late }));
        }
        self.doubted = doubts;
        let forget = self.config.forget;
        self.records.retain(|name, record| {
            let kept = now.saturating_duration_since(record.seen) < forget;
            if !kept {
                correlator.on_removed(now, *name);
            }
            kept
        });
        self.tick_at = None;
        if !self.records.is_empty() {
            self.set_tick(now);
        }
    }
}

impl LinkRecord {
    /// The opinion after one more interval.
    fn judged(&mut self, now: Instant, name: LinkName, config: &HealthConfig, doubt: Confidence) -> LinkOpinion {
        let worse = config.judge.is_worse(self.health.beside_usual());
        let verdict = self.health.verdict_of(now, doubt, worse);
        let outlook = if worse { self.health.outlook(now) } else { Outlook::default() };
        let says = advice_of(&config.judge, &verdict, &outlook, worse);
        let advice: Advice = self.judge.on_interval(&config.judge, says);
        LinkOpinion {
            link: name.link,
            advice,
            degrading: verdict.degrading,
            unusable: verdict.unusable,
            outlook,
            doubt: verdict.doubt,
            findings: verdict.findings,
            quality: self.health.quality(),
        }
    }
}

#[cfg(test)]
mod tests;
