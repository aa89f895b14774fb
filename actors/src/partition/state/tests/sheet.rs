//! An application: a list of committed lines and a list of lines that were never committed. And a network of such.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::ResolutionConfig;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::super::*;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

pub(super) fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Lines {
    committed: Vec<String>,
    end: Position,
    open: Vec<String>,
    clock: VectorClock,
}

/// The application, and what is to go wrong in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sheet {
    lines: Lines,
    pub(super) apply_fails: u32,
    pub(super) becomes_else: bool,
    pub(super) restore_fails: bool,
    /// How often it was looked at as a whole.
    pub(super) looked: Cell<usize>,
}

impl Sheet {
    pub(super) fn commit(&mut self, position: Position, line: &str) {
        self.lines.committed.push(line.to_owned());
        self.lines.end = position;
        self.lines.open.retain(|open| open != line);
    }

    pub(super) fn change(&mut self, who: PeerId, line: &str) {
        self.lines.open.push(line.to_owned());
        self.lines.clock.tick(who, 64).unwrap();
    }

    pub(super) fn open(&self) -> &[String] {
        &self.lines.open
    }

    pub(super) fn committed(&self) -> &[String] {
        &self.lines.committed
    }
}

impl Versioned for Sheet {
    fn version(&self) -> Version {
        self.looked.update(|looked| looked + 1);
        Version {
            committed: self.lines.end,
            committed_digest: transfer::digest(&serde_json::to_vec(&self.lines.committed).unwrap()),
            sequence: (self.lines.committed.len() + self.lines.open.len()) as u64,
            clock: self.lines.clock.clone(),
        }
    }

    fn committed(&self) -> Position {
        self.lines.end
    }

    fn snapshot(&self) -> Bytes {
        postcard::to_allocvec(&self.lines).unwrap().into()
    }

    fn apply(&mut self, state: &Bytes) -> Result<(), String> {
        if self.apply_fails > 0 {
            self.apply_fails -= 1;
            self.lines.committed.push("half of it".to_owned());
            return Err("not today".to_owned());
        }
        self.lines = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        if self.becomes_else {
            self.lines.open.push("else".to_owned());
        }
        Ok(())
    }

    fn merge(&mut self, before: &Bytes) -> Vec<Bytes> {
        let before: Lines = postcard::from_bytes(before).unwrap();
        let known: BTreeSet<&String> = self.lines.committed.iter().chain(&self.lines.open).collect();
        before.open.iter().filter(|line| !known.contains(line)).map(|line| line.clone().into_bytes().into()).collect()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), String> {
        if self.restore_fails {
            return Err("the disk is full".to_owned());
        }
        self.lines = postcard::from_bytes(snapshot).map_err(|error| error.to_string())?;
        Ok(())
    }
}

pub(super) struct Room {
    pub(super) now: Instant,
    pub(super) rng: ChaCha8Rng,
    pub(super) nodes: BTreeMap<PeerId, (Resolution, Sheet)>,
    packets: BTreeMap<(Instant, u64), (PeerId, PeerId, Bytes)>,
    sent: u64,
    pub(super) away: BTreeSet<PeerId>,
    pub(super) loss: f64,
    /// Who damages pieces on their way.
    pub(super) damages: Option<PeerId>,
    pub(super) outputs: Vec<(PeerId, ResolutionOutput)>,
}

impl Room {
    /// So many nodes, of which the first leads in term 3.
    pub(super) fn new(count: u8, seed: u64) -> Self {
        let config = ResolutionConfig { piece_bytes: 512, collect: ms(4000), ..ResolutionConfig::default() };
        let node = |number| (peer(number), (Resolution::new(peer(number), config.clone()), Sheet::default()));
        let mut room = Self {
            now: Instant::now(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: (1..=count).map(node).collect(),
            packets: BTreeMap::new(),
            sent: 0,
            away: BTreeSet::new(),
            loss: 0.0,
            damages: None,
            outputs: Vec::new(),
        };
        for (resolution, _) in room.nodes.values_mut() {
            resolution.on_leader(3, Some(peer(1)));
            resolution.on_participants((1..=count).map(peer).collect()).unwrap();
            resolution.on_log_end(at(9, 1000));
        }
        room
    }

    pub(super) fn sheet(&mut self, number: u8) -> &mut Sheet {
        &mut self.nodes.get_mut(&peer(number)).unwrap().1
    }

    /// The leader coordinates a resolution: its first.
    pub(super) fn start(&mut self) -> Round {
        self.seek(1);
        Round { term: 3, number: 1 }
    }

    pub(super) fn seek(&mut self, number: u8) {
        let now = self.now;
        let (resolution, sheet) = self.nodes.get_mut(&peer(number)).unwrap();
        resolution.seek(now, sheet);
        self.pump(peer(number));
    }

    pub(super) fn give(&mut self, to: PeerId, from: PeerId, payload: &[u8]) -> Result<(), Refused> {
        let now = self.now;
        let (resolution, sheet) = self.nodes.get_mut(&to).unwrap();
        let taken = resolution.on_packet(now, from, payload, sheet);
        self.pump(to);
        taken
    }

    pub(super) fn pump(&mut self, me: PeerId) {
        while let Some(output) = self.nodes.get_mut(&me).unwrap().0.poll_output() {
            let ResolutionOutput::Send { to, payload } = &output else {
                self.outputs.push((me, output));
                continue;
            };
            assert!(payload.len() <= wire::PACKET_BYTES_MAX);
            let mut payload = payload.clone();
            if self.damages == Some(me)
                && let Ok(Packet::Piece(mut piece)) = decode(&payload)
            {
                piece.data = piece.data.iter().map(|byte| byte ^ 1).collect();
                payload = encode(&Packet::Piece(piece));
            }
            if !self.rng.random_bool(self.loss) {
                self.sent += 1;
                let arrives = self.now + ms(self.rng.random_range(5..60));
                self.packets.insert((arrives, self.sent), (me, *to, payload));
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = |(peer, node): (&PeerId, &(Resolution, Sheet))| node.0.deadline().map(|at| (at, *peer));
            let timer = self.nodes.iter().filter(|(peer, _)| !self.away.contains(peer)).filter_map(timer).min();
            let packet = self.packets.keys().next().copied();
            let Some(next) = [timer.map(|(at, _)| at), packet.map(|(at, _)| at)].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if let Some(key) = packet.filter(|(at, _)| *at == next) {
                let (from, to, payload) = self.packets.remove(&key).unwrap();
                if !self.away.contains(&to) && !self.away.contains(&from) {
                    let _ = self.give(to, from, &payload);
                }
            } else if let Some((_, me)) = timer {
                let now = self.now;
                let (resolution, sheet) = self.nodes.get_mut(&me).unwrap();
                resolution.on_timeout(now, sheet);
                self.pump(me);
            }
        }
        self.now = end;
    }

    pub(super) fn outcomes(&self) -> Option<BTreeMap<PeerId, Outcome>> {
        let resolved = |(peer, output): &(PeerId, ResolutionOutput)| match output {
            ResolutionOutput::Resolved { done, .. } if *peer == super::sheet::peer(1) => Some(done.clone()),
            _ => None,
        };
        self.outputs.iter().rev().find_map(resolved)
    }

    pub(super) fn proposals(&self) -> Vec<String> {
        let text = |(_, output): &(PeerId, ResolutionOutput)| match output {
            ResolutionOutput::Propose(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            _ => None,
        };
        self.outputs.iter().filter_map(text).collect()
    }

    pub(super) fn rollback(&self, number: u8) -> Option<RollbackReason> {
        let reason = |(peer, output): &(PeerId, ResolutionOutput)| match output {
            ResolutionOutput::RolledBack { reason, .. } if *peer == super::sheet::peer(number) => Some(reason.clone()),
            _ => None,
        };
        self.outputs.iter().find_map(reason)
    }
}
