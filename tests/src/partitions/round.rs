//! One time that the network falls apart, and comes together again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{EVERY, Hosts, LabError, Node, Stand, wait};

/// How long the network stays apart: longer than it takes to act upon it.
const APART: Duration = Duration::from_secs(9);
/// How long everybody may take to work again: ten times of what it is to take, since other programs run here, too. The experiment on virtual time is the one
/// that measures.
const RECOVERED_MAX: Duration = Duration::from_secs(50);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The last two hear the others no more, nor the other way round.
    TwoSides,
    /// Two, two and one.
    ThreeSides,
    /// One hears nobody, and is heard by all.
    OneWay,
    /// Two do not hear each other, and all others do.
    Partial,
    /// The first three hear each other, and so do the last three: both see three of five. The one in the middle carries packets of the others.
    Overlapping,
    /// Two sides, again and again for a second at a time.
    Flapping,
    /// Two nodes are killed.
    Crash,
}

impl Kind {
    /// All of them, in the order in which they come, again and again.
    pub const ALL: [Self; 7] =
        [Self::TwoSides, Self::OneWay, Self::Overlapping, Self::ThreeSides, Self::Partial, Self::Crash, Self::Flapping];

    /// Who does not hear whom, on hosts that are numbered anew each round.
    fn deaf(self) -> Vec<(usize, usize)> {
        let sides = |sides: &[&[usize]]| {
            let apart =
                |one: usize, other: usize| !sides.iter().any(|side| side.contains(&one) && side.contains(&other));
            let all: BTreeSet<usize> = sides.concat().into_iter().collect();
            let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other)));
            pairs.filter(|(one, other)| apart(*one, *other)).collect()
        };
        match self {
            Self::TwoSides | Self::Flapping => sides(&[&[0, 1, 2], &[3, 4]]),
            Self::ThreeSides => sides(&[&[0, 1], &[2, 3], &[4]]),
            Self::OneWay => (1..5).map(|other| (0, other)).collect(),
            Self::Partial => vec![(0, 1), (1, 0)],
            Self::Overlapping => sides(&[&[0, 1, 2], &[2, 3, 4]]),
            Self::Crash => Vec::new(),
        }
    }

    /// Who hears too few to go on, by the same numbers.
    const fn loses(self) -> &'static [usize] {
        match self {
            Self::TwoSides => &[3, 4],
            Self::ThreeSides => &[0, 1, 2, 3, 4],
            Self::OneWay => &[0],
            Self::Partial | Self::Overlapping | Self::Flapping | Self::Crash => &[],
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// What happened.
    pub kind: Kind,
    /// Until everybody who hears too few held the group to be split, or possibly so, in milliseconds.
    pub suspected_ms: Option<u64>,
    /// Until none of these took on anything any more.
    pub paused_ms: Option<u64>,
    /// From the healing until everybody worked again.
    pub recovered_ms: u64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Lets the network fall apart and come together. Whose turn it is changes from round to round.
pub(super) fn play(
    kind: Kind,
    number: usize,
    hosts: &Hosts,
    nodes: &mut [Node],
    violations: &mut Vec<String>,
) -> Result<Round, LabError> {
    let count = nodes.len();
    let host = |n: usize| (n + number) % count;
    let deafen = || kind.deaf().iter().try_for_each(|(one, other)| hosts.deafen(host(*one), host(*other)));
    let (begun, mut flips) = (Instant::now(), Instant::now());
    deafen().map_err(LabError::Hosts)?;
    if kind == Kind::Crash {
        [0, 1].into_iter().for_each(|n| nodes[host(n)].kill());
    }
    let losers: Vec<usize> = kind.loses().iter().map(|n| host(*n)).collect();
    let (mut suspected, mut paused, mut apart) = (None, None, true);
    let mut held = Vec::new();
    while begun.elapsed() < APART {
        let stands: Vec<Stand> = nodes.iter().map(Node::stand).collect();
        look(&stands, &mut held, violations);
        let all = |is: fn(&Stand) -> bool| !losers.is_empty() && losers.iter().all(|host| is(&stands[*host]));
        if suspected.is_none() && all(|stand| stand.suspects) {
            suspected = Some(millis(begun.elapsed()));
        }
        if paused.is_none() && all(|stand| !stand.running) {
            paused = Some(millis(begun.elapsed()));
        }
        if kind == Kind::Flapping && flips.elapsed() > Duration::from_secs(1) {
            (apart, flips) = (!apart, Instant::now());
            if apart { deafen() } else { hosts.heal() }.map_err(LabError::Hosts)?;
        }
        std::thread::sleep(EVERY / 3);
    }
    hosts.heal().map_err(LabError::Hosts)?;
    if kind == Kind::Crash {
        [0, 1].into_iter().try_for_each(|n| nodes[host(n)].start(hosts))?;
    }
    if !losers.is_empty() && paused.is_none() {
        violations.push(format!("round {number}, {kind:?}: who hears too few did not pause in {APART:?}"));
    }
    if !losers.is_empty() && suspected.is_none() {
        violations.push(format!("round {number}, {kind:?}: who hears too few did not suspect it in {APART:?}"));
    }
    let recovered = wait(nodes, "recover", |stands| stands.iter().all(|stand| stand.running))?;
    if recovered > RECOVERED_MAX {
        violations.push(format!("round {number}, {kind:?}: it took {recovered:?} until all worked again"));
    }
    Ok(Round { kind, suspected_ms: suspected, paused_ms: paused, recovered_ms: millis(recovered) })
}

/// Whoever said that it holds the lease for so long must be the only one who does.
fn look(stands: &[Stand], held: &mut Vec<(u64, Instant)>, violations: &mut Vec<String>) {
    let now = Instant::now();
    held.retain(|(_, until)| *until > now);
    for (term, until) in stands.iter().filter_map(|stand| stand.holds) {
        if let Some((other, _)) = held.iter().find(|(other, until)| *other != term && *until > now) {
            violations.push(format!("the lease of term {other} is held while that of {term} is"));
        }
        held.retain(|(other, _)| *other != term);
        held.push((term, until));
    }
}
