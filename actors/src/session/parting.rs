//! Closing a link on purpose: what this side tells the peer of it, and what it makes of it when the peer says so. Pure.
//!
//! To the peer a connection that ends looks the same whether its other side was done with it or died. So the last record on a link that is
//! closed on purpose says that it is (`LINK_DOWN` of the link itself, *closed*), and so does the next one on every other link: whichever
//! comes first. The peer counts it as its own will then: no failure, no failover, nothing against the way it went.

use std::time::Instant;

use bowline_messages::LinkId;
use bowline_messages::link::{LinkFailure, LinkState};
use bowline_messages::wire::frame::{self, LinkDownCode};
use bytes::BytesMut;

use super::machine::{Output, Parts, Session};
use super::path::Path;

impl Session {
    /// A link is not needed any more. What is under way on it goes over others.
    pub fn let_go(&mut self, now: Instant, id: LinkId, reason: &str, parts: &mut Parts<'_>) {
        self.take_leave(now, id, parts);
        self.remove(now, id, LinkFailure::ClosedHere(reason.to_owned()), true);
        self.reroute(now, parts);
    }

    /// A link is closed to be dialled anew, as long as the session has another that is well: whoever asked for it may not know of the last fall. Says
    /// whether that is so. A link that the session does not know is closed whatever else stands.
    pub fn reset(&mut self, now: Instant, id: LinkId, parts: &mut Parts<'_>) -> bool {
        let sound = |path: &Path| path.state.is_usable() && path.proven && path.suspicions == 0;
        let known = self.paths.contains_key(&id);
        if known && !self.paths.values().any(|path| path.info.id != id && sound(path)) {
            return false;
        }
        self.let_go(now, id, "it is reset as a repair", parts);
        true
    }

    /// Has the peer told that a link is about to be closed on purpose: on the link itself, as the last that goes over it, and on all others.
    pub(super) fn take_leave(&mut self, now: Instant, id: LinkId, parts: &mut Parts<'_>) {
        // A peer that has not proven itself on a link is told nothing there.
        if self.paths.get(&id).is_none_or(|path| path.state == LinkState::Initializing) {
            return;
        }
        let others: Vec<_> = self.paths.keys().filter(|other| **other != id).copied().collect();
        for other in others {
            self.notice(other, id, LinkDownCode::Closed);
        }
        let Some(keys) = parts.keys.get_mut(&id) else { return };
        let mut data = BytesMut::with_capacity(256);
        let start = keys.sealer.begin(&mut data);
        // What has come over it need not come again.
        self.put_acks(now, id, &mut data);
        frame::put_link_down(&mut data, id, LinkDownCode::Closed);
        // A link whose keys are used up carries no last word; the others say it.
        if keys.sealer.finish(&mut data, start).is_ok() {
            self.outputs.push_back(Output::LastWords(id, data.freeze()));
        }
    }

    /// The peer says that it closes a link on purpose.
    pub(super) fn on_let_go(&mut self, now: Instant, id: LinkId) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.let_go = true;
            self.remove(now, id, LinkFailure::ClosedByPeer, true);
        }
    }
}
