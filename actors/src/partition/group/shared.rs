//! The application's state, the same on all participants: what the log made of it, and what was accepted here and is not committed yet.

use std::collections::{BTreeMap, BTreeSet};

use bowline_messages::PeerId;
use bowline_messages::config::GroupSection;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::done::{CommandId, Done};
use crate::partition::log::Position;
use crate::partition::log::wire::NUMBER_MAX;
use crate::partition::state::transfer::digest;
use crate::partition::state::{VectorClock, Version, Versioned};
use crate::partition::terms::LEAP_MAX;
use crate::partition::wire::{Signature, Signer};

/// Commands that may be open in a state: those of as many participants as may be configured.
const OPEN_MAX: usize = GroupSection::PARTICIPANTS_MAX * Done::WINDOW as usize;

/// What an application has to be so that a group can keep it: commands that change it, in one order everywhere. Called on the node's thread; nothing in here
/// may block, look at a clock or draw lots.
pub trait StateMachine {
    /// Carries out a command and says what came of it. The same state and command give the same on every node. Whatever the bytes are, it does not panic: one that
    /// makes no sense is answered so, and changes nothing.
    fn execute(&mut self, command: &Bytes) -> Bytes;

    /// All of it, as bytes. The same state gives the same bytes on every node. It has to stay below `partition_log.snapshot_bytes_max` and
    /// `resolution.bytes_max`, or the group comes to a halt: the application refuses what would make it larger.
    fn save(&self) -> Bytes;

    /// Becomes what [`StateMachine::save`] gave.
    ///
    /// # Errors
    /// In its own words; nothing changed.
    fn load(&mut self, state: &Bytes) -> Result<(), String>;
}

impl StateMachine for Box<dyn StateMachine> {
    fn execute(&mut self, command: &Bytes) -> Bytes {
        (**self).execute(command)
    }

    fn save(&self) -> Bytes {
        (**self).save()
    }

    fn load(&mut self, state: &Bytes) -> Result<(), String> {
        (**self).load(state)
    }
}

/// What the signature of a command covers begins with this, so that it is never taken for one of a statement.
const SIGNED_AS: &[u8] = b"command of a group";

/// A command on its way through the log. Its origin signs it: nobody else can use up its numbers, or have something done in its name. The fence is not
/// covered, since whoever proposes a command again does so under the lease of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The term of the lease under which it was proposed.
    pub fence: u64,
    /// Its name. Proposed twice, it is carried out once.
    pub id: CommandId,
    /// What is to be done, in the application's words.
    pub content: Bytes,
    /// Its origin's, of its name and its content.
    pub signature: Signature,
}

impl Command {
    /// A command of this node's.
    pub fn new(signer: &dyn Signer, fence: u64, id: CommandId, content: Bytes) -> Self {
        let signature = Signature::new(signer, &signed_bytes(&id, &content));
        Self { fence, id, content, signature }
    }

    /// Whether its origin signed it. The same everywhere: it depends on nothing but the command.
    pub fn is_signed(&self, signer: &dyn Signer) -> bool {
        self.signature.is_of(signer, &self.id.origin, &signed_bytes(&self.id, &self.content))
    }

    /// As an entry of the log.
    pub fn encode(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    /// From an entry of the log; `None`: it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((command, [])) => Some(command),
            Ok(_) | Err(_) => None,
        }
    }
}

fn signed_bytes(id: &CommandId, content: &[u8]) -> Vec<u8> {
    let (life, number) = (id.life.to_be_bytes(), id.number.to_be_bytes());
    [SIGNED_AS, id.origin.as_bytes(), &life, &number, content].concat()
}

/// What became of a committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// It was carried out; the application's answer.
    Out(Bytes),
    /// It had been carried out before, or never will be.
    Before,
    /// It was proposed under a lease that is over: it has to be proposed again.
    Fenced,
    /// Its lease is said to be of a term that is too far above those before. It is passed over, and the fence comes as far up as it may: so whatever really
    /// is of such a term is carried out after some repetitions, and nobody uses terms up.
    Leap,
    /// Its origin did not sign it, or never took part: it is passed over, and its name is still free.
    Unsigned,
}

/// What the log made of it, beside the application itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Ledger {
    position: Position,
    /// The highest term under which anything was done: what was proposed under a lower one is passed over.
    fence: u64,
    done: Done,
    /// Changes of the participants so far, and who they are since the last one; none: those of the beginning.
    version: u64,
    participants: Vec<[u8; 32]>,
}

impl Ledger {
    /// A state comes from another node, which can say what it likes: no number in it may be one that nothing can follow.
    fn check(&self) -> Result<(), String> {
        let Position { term, index } = self.position;
        let numbers = [term, index, self.fence, self.done.count(), self.version];
        let sound = numbers.iter().all(|number| *number < NUMBER_MAX);
        if sound { Ok(()) } else { Err("a number in it cannot be".to_owned()) }
    }
}

/// What travels and is stored.
#[derive(Serialize, Deserialize)]
struct Committed {
    ledger: Ledger,
    machine: Bytes,
}

/// All of it.
#[derive(Serialize, Deserialize)]
struct Whole {
    committed: Committed,
    open: BTreeMap<CommandId, Command>,
    clock: VectorClock,
}

/// The shared state on one node.
#[derive(Debug)]
pub struct Shared<M> {
    machine: M,
    /// Who takes part at the very beginning. Nobody else's commands are carried out, whoever signed them: so what is remembered of origins has bounds, and it
    /// is the same on all nodes, which who takes part now is not at every moment.
    beginning: BTreeSet<PeerId>,
    ledger: Ledger,
    open: BTreeMap<CommandId, Command>,
    clock: VectorClock,
}

impl<M: StateMachine> Shared<M> {
    /// The beginning, for these participants, the same everywhere.
    pub fn new(machine: M, beginning: BTreeSet<PeerId>) -> Self {
        Self { machine, beginning, ledger: Ledger::default(), open: BTreeMap::new(), clock: VectorClock::default() }
    }

    /// The application.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// What was accepted and is not committed.
    pub const fn open(&self) -> &BTreeMap<CommandId, Command> {
        &self.open
    }

    /// How far it is.
    pub const fn position(&self) -> Position {
        self.ledger.position
    }

    /// The highest term under which anything was done.
    pub const fn fence(&self) -> u64 {
        self.ledger.fence
    }

    /// How many commands were carried out.
    pub const fn carried_out(&self) -> u64 {
        self.ledger.done.count()
    }

    /// Whether a command was carried out, or never will be.
    pub fn is_done(&self, id: &CommandId) -> bool {
        self.ledger.done.contains(id)
    }

    /// Changes of the participants so far, and who they are since the last one; none before the first.
    pub fn participants(&self) -> (u64, impl Iterator<Item = PeerId> + '_) {
        (self.ledger.version, self.ledger.participants.iter().copied().map(PeerId::from_bytes))
    }

    /// A client's command is accepted: it will be proposed until it is committed.
    pub fn accept(&mut self, me: PeerId, command: Command) {
        self.open.insert(command.id, command);
        // It never is full: there is nobody in it who did not take part at the beginning.
        let _ = self.clock.tick(me, self.beginning.len());
    }

    /// What was never committed is given up.
    pub fn roll_back(&mut self) {
        self.open.clear();
    }

    /// One that was never committed is given up: nobody proposes it any more.
    pub fn give_up(&mut self, id: &CommandId) {
        self.open.remove(id);
    }

    /// An entry is committed. Gives the command and what became of it; `None` if the state has it already, or it is none.
    pub fn on_committed(
        &mut self,
        position: Position,
        bytes: &[u8],
        signer: &dyn Signer,
    ) -> Option<(Command, Carried)> {
        if position.index <= self.ledger.position.index {
            return None;
        }
        self.ledger.position = position;
        let command = Command::decode(bytes)?;
        if !self.beginning.contains(&command.id.origin) || !command.is_signed(signer) {
            return Some((command, Carried::Unsigned));
        }
        let carried = if self.ledger.done.contains(&command.id) {
            Carried::Before
        } else if command.fence < self.ledger.fence {
            Carried::Fenced
        } else if command.fence - self.ledger.fence > LEAP_MAX {
            self.ledger.fence += LEAP_MAX;
            Carried::Leap
        } else {
            self.ledger.fence = command.fence;
            self.ledger.done.insert(&command.id);
            Carried::Out(self.machine.execute(&command.content))
        };
        if !matches!(carried, Carried::Fenced | Carried::Leap) {
            self.open.remove(&command.id);
        }
        Some((command, carried))
    }

    /// The participants are these from a place in the log on. Whether that is news.
    pub fn on_members(&mut self, position: Position, voters: impl Iterator<Item = PeerId>) -> bool {
        let news = position.index > self.ledger.position.index;
        if news {
            self.ledger.position = position;
            self.ledger.version += 1;
            self.ledger.participants = voters.map(|peer| *peer.as_bytes()).collect();
        }
        news
    }

    /// What the log made of it, for a snapshot of the log.
    pub fn save(&self) -> Bytes {
        postcard::to_allocvec(&self.saved()).unwrap_or_default().into()
    }

    /// The log replaces what it made of it.
    ///
    /// # Errors
    /// In the application's words, or that it cannot be read; nothing changed.
    pub fn load(&mut self, state: &[u8]) -> Result<(), String> {
        let committed: Committed = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        committed.ledger.check()?;
        if committed.ledger.position.index > self.ledger.position.index {
            self.machine.load(&committed.machine)?;
            self.ledger = committed.ledger;
            self.open.retain(|id, _| !self.ledger.done.contains(id));
        }
        Ok(())
    }

    fn saved(&self) -> Committed {
        Committed { ledger: self.ledger.clone(), machine: self.machine.save() }
    }
}

impl<M: StateMachine> Versioned for Shared<M> {
    fn version(&self) -> Version {
        Version {
            committed: self.ledger.position,
            committed_digest: digest(&self.save()),
            sequence: self.ledger.done.count() + self.open.len() as u64,
            clock: self.clock.clone(),
        }
    }

    fn committed(&self) -> Position {
        self.ledger.position
    }

    fn snapshot(&self) -> Bytes {
        let whole = Whole { committed: self.saved(), open: self.open.clone(), clock: self.clock.clone() };
        postcard::to_allocvec(&whole).unwrap_or_default().into()
    }

    fn apply(&mut self, state: &Bytes) -> Result<(), String> {
        let whole: Whole = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        let cannot_be =
            |(id, command): (&CommandId, &Command)| *id != command.id || !self.beginning.contains(&id.origin);
        if whole.open.len() > OPEN_MAX || whole.open.iter().any(cannot_be) {
            return Err("what is open in it cannot be".to_owned());
        }
        if !whole.clock.peers().all(|peer| self.beginning.contains(peer)) {
            return Err("it counts changes of strangers".to_owned());
        }
        whole.committed.ledger.check()?;
        self.machine.load(&whole.committed.machine)?;
        self.ledger = whole.committed.ledger;
        (self.open, self.clock) = (whole.open, whole.clock);
        Ok(())
    }

    fn merge(&mut self, before: &Bytes) -> Vec<Bytes> {
        let Ok(before) = postcard::from_bytes::<Whole>(before) else { return Vec::new() };
        let lost = before.open.into_iter().filter(|(id, _)| !self.open.contains_key(id) && !self.is_done(id));
        lost.map(|(_, command)| command.encode()).collect()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), String> {
        self.apply(snapshot)
    }
}
