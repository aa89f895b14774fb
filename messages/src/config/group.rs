//! Which group a node belongs to.

use serde::{Deserialize, Serialize};

use super::Checks;
use crate::id::PeerId;

/// Section `[group]`: nodes that keep a state together, of which at most one side goes on when the network falls apart. A change needs a restart; after the very
/// first start it changes nothing, for then the group itself decides who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupSection {
    /// Who takes part at the very beginning, this node included; the same list on all of them. Default: nobody, so there is no group.
    pub participants: Vec<PeerId>,
}

impl GroupSection {
    /// Participants at most: every one of them is asked, and answers, every few hundred milliseconds.
    pub const PARTICIPANTS_MAX: usize = 64;

    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        checks.number("group.participants", self.participants.len(), 0..=Self::PARTICIPANTS_MAX);
        let unique: std::collections::BTreeSet<_> = self.participants.iter().collect();
        let shown = self.participants.len().to_string();
        checks.ensure(
            "group.participants",
            unique.len() == self.participants.len(),
            &shown,
            "one of them is named twice",
        );
    }
}
