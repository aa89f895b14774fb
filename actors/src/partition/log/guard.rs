//! What a participant says is compared with what can be true before the consensus sees it.
//!
//! The consensus tolerates crashes, not lies: told by a liar, it would cut off what is committed, or stop. So whatever contradicts what is committed here,
//! itself, or the bounds is refused and counted, and changes nothing.

use std::collections::BTreeSet;

use noraft::{LogIndex, Node};

use super::roster::Roster;
use super::wire::{Entry, Membership, NUMBER_MAX, Offer, Position};
use bowline_messages::PeerId;
use bowline_messages::config::PartitionLogConfig;

/// What is wrong with it.
pub(super) type Impossible = &'static str;

fn number(value: u64) -> Result<(), Impossible> {
    if value < NUMBER_MAX { Ok(()) } else { Err("a term or index out of range") }
}

/// A place at which a log could end in that term.
pub(super) fn place(term: u64, at: Position) -> Result<(), Impossible> {
    number(term)?;
    number(at.index)?;
    if at.term > term { Err("a place in a term to come") } else { Ok(()) }
}

/// Whether nobody came to the participants, and only those went who may.
pub(super) fn only_loses(before: &Membership, after: &Membership, may_go: &BTreeSet<PeerId>) -> bool {
    let from = |voters: &BTreeSet<PeerId>| {
        voters.is_subset(&before.voters) && before.voters.difference(voters).all(|peer| may_go.contains(peer))
    };
    let then = after.next_voters.is_empty() || from(&after.next_voters);
    then && from(&after.voters) && after.learners.is_subset(&before.learners)
}

/// Whether that may be the next change; one that changes nothing is none.
fn may_become(before: &Membership, after: &Membership, may_go: &BTreeSet<PeerId>) -> bool {
    let same = if after.next_voters.is_empty() { &before.voters } else { &after.next_voters };
    after.voters != *same && only_loses(before, after, may_go)
}

/// How many of these entries may be taken, since all changes of the participants in them are ones that may be.
pub(super) fn lawful(mut before: Membership, entries: &[Entry], may_go: &BTreeSet<PeerId>) -> usize {
    let mut lawful = |entry: &&Entry| match entry {
        Entry::Membership(after) if !may_become(&before, after, may_go) => false,
        Entry::Membership(after) => {
            before = after.clone();
            true
        }
        Entry::Term(_) | Entry::Command(_) => true,
    };
    entries.iter().take_while(&mut lawful).count()
}

/// Whether a place is the one that is committed here, as far as that can be told.
fn agrees(node: &Node, committed: u64, at: Position) -> Result<(), Impossible> {
    let here = node.log().entries().get_term(LogIndex::new(at.index));
    if at.index <= committed && here.is_some_and(|term| term.get() != at.term) {
        return Err("it contradicts what is committed");
    }
    Ok(())
}

/// Entries of a leader.
pub(super) fn append(
    (node, committed): (&Node, u64),
    (term, commit, prev): (u64, u64, Position),
    entries: &[Entry],
    (roster, config): (&mut Roster, &PartitionLogConfig),
) -> Result<(), Impossible> {
    place(term, prev)?;
    number(commit)?;
    number(prev.index.saturating_add(entries.len() as u64))?;
    if term == node.current_term().get() && node.role().is_leader() {
        return Err("a second leader in a term");
    }
    // A leader of old may not know what was committed since; the consensus tells it.
    let agrees = |at| if term < node.current_term().get() { Ok(()) } else { agrees(node, committed, at) };
    agrees(prev)?;
    let mut at = prev;
    for entry in entries {
        at.index += 1;
        match entry {
            Entry::Term(next) if *next <= at.term || *next > term => return Err("terms out of order"),
            Entry::Term(next) => at.term = *next,
            Entry::Membership(membership) => {
                if !membership.is_sound(config.participants_max) || !roster.note(membership) {
                    return Err("a membership that cannot be");
                }
            }
            Entry::Command(bytes) if bytes.len() > config.entry_bytes_max as usize => return Err("an entry too large"),
            Entry::Command(_) => {}
        }
        agrees(at)?;
    }
    Ok(())
}

/// A snapshot of a leader.
pub(super) fn offer(
    (node, committed): (&Node, u64),
    (term, offer): (u64, &Offer),
    (roster, config): (&mut Roster, &PartitionLogConfig),
) -> Result<(), Impossible> {
    place(term, offer.position)?;
    if term >= node.current_term().get() {
        agrees(node, committed, offer.position)?;
    }
    if term == node.current_term().get() && node.role().is_leader() {
        return Err("a second leader in a term");
    }
    if offer.bytes > config.snapshot_bytes_max {
        return Err("a snapshot too large");
    }
    if !offer.membership.is_sound(config.participants_max) || !roster.note(&offer.membership) {
        return Err("a membership that cannot be");
    }
    Ok(())
}
