//! What each peer may still have delivered, kept with the peer: a session that ends and is made anew brings no new budget.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::SessionConfig;

use super::limits::{BudgetConfig, PeerBudget};

/// So many peers are remembered before it is looked for the first time which may be forgotten.
const KEPT_MIN: usize = 16;

/// The budgets of one peer.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// For messages.
    pub(crate) messages: PeerBudget,
    /// The same for what is read from its streams.
    pub(crate) streams: PeerBudget,
}

/// The budgets of all peers that have a session or have not paid for what the last one took.
#[derive(Debug, Default)]
pub(crate) struct BudgetTable {
    peers: BTreeMap<PeerId, (BudgetConfig, Rc<RefCell<Budgets>>)>,
    /// How many there may be before those that owe nothing are forgotten.
    sweep_at: usize,
}

impl BudgetTable {
    /// The budgets of a peer, new ones if it owes nothing or is allowed something else now. None when it has no limit.
    pub(crate) fn of(&mut self, peer: PeerId, config: &SessionConfig, now: Instant) -> Option<Rc<RefCell<Budgets>>> {
        let config = BudgetConfig::of(config)?;
        self.sweep(now);
        if let Some((_, known)) = self.peers.get(&peer).filter(|(known, _)| *known == config) {
            return Some(known.clone());
        }
        let budget = PeerBudget::new(&config, now);
        let budgets = Rc::new(RefCell::new(Budgets { messages: budget, streams: budget }));
        self.peers.insert(peer, (config, budgets.clone()));
        Some(budgets)
    }

    /// Forgets those without a session that are full again. Only when there are twice as many as were left the last time, so that it
    /// costs the same for each peer however many there are.
    fn sweep(&mut self, now: Instant) {
        if self.peers.len() < self.sweep_at.max(KEPT_MIN) {
            return;
        }
        self.peers.retain(|_, (_, budgets)| {
            let full = || {
                let Budgets { messages, streams } = &mut *budgets.borrow_mut();
                messages.is_full(now) && streams.is_full(now)
            };
            Rc::strong_count(budgets) > 1 || !full()
        });
        self.sweep_at = self.peers.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_debt_outlives_the_session_and_what_is_paid_is_forgotten() {
        let now = Instant::now();
        let config = SessionConfig { peer_bytes_per_second: 1000, ..SessionConfig::default() };
        let mut table = BudgetTable::default();
        let peer = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            PeerId::from_bytes(bytes)
        };
        let debt =
            |table: &mut BudgetTable, now| table.of(peer(0), &config, now).unwrap().borrow_mut().streams.debt(now);
        table.of(peer(0), &config, now).unwrap().borrow_mut().streams.charge(1, 101_000, now);
        let living = table.of(peer(1), &config, now).unwrap();
        for number in 2..10_000 {
            table.of(peer(number), &config, now).unwrap();
            assert!(table.peers.len() <= KEPT_MIN, "{} peers that owe nothing", table.peers.len());
        }
        assert_eq!(debt(&mut table, now + Duration::from_secs(40)), Duration::from_secs(60));
        assert!(Rc::ptr_eq(&living, &table.of(peer(1), &config, now).unwrap()), "that of a session is its own");
        let later = now + Duration::from_secs(102);
        for number in 2..10_000 {
            table.of(peer(number), &config, later).unwrap();
        }
        assert!(!table.peers.contains_key(&peer(0)));
        let unlimited = SessionConfig::default();
        assert!(table.of(peer(0), &unlimited, now).is_none());
    }
}
