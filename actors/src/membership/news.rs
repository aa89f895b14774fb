//! What a node passes on: statements, each a bounded number of times, the least told first.

use std::collections::BTreeMap;

use bowline_messages::PeerId;

use super::wire::{Claim, Draft, Statement};

/// What a statement replaces: there is one of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Alive(PeerId),
    Leave(PeerId),
    Accuse(PeerId, PeerId),
}

impl Topic {
    const fn of(claim: &Claim) -> Self {
        match claim {
            Claim::Alive { node, .. } => Self::Alive(node.peer),
            Claim::Leave { node } => Self::Leave(node.peer),
            Claim::Accuse { accused, accuser, .. } => Self::Accuse(accused.peer, *accuser),
        }
    }
}

/// The statements that are passed on at present.
#[derive(Debug)]
pub struct News {
    items: BTreeMap<Topic, (Statement, u32)>,
    items_max: usize,
}

impl News {
    /// Nothing yet, and at most so much at once.
    pub const fn new(items_max: usize) -> Self {
        Self { items: BTreeMap::new(), items_max }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How much there is to tell.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Begins to tell something, instead of what was told of the same kind. When there is too much, what was told most often goes.
    pub fn add(&mut self, statement: Statement) {
        let topic = Topic::of(&statement.claim);
        if self.items.len() >= self.items_max && !self.items.contains_key(&topic) {
            let oldest = self.items.iter().max_by_key(|(_, (_, told))| *told).map(|(topic, _)| *topic);
            oldest.map(|topic| self.items.remove(&topic));
        }
        self.items.insert(topic, (statement, 0));
    }

    /// Stops telling that a member was accused: it has answered.
    pub fn drop_accusations(&mut self, accused: PeerId) {
        self.items.retain(|topic, _| !matches!(topic, Topic::Accuse(of, _) if *of == accused));
    }

    /// Stops telling anything about a member, or on its word.
    pub fn drop_subject(&mut self, peer: PeerId) {
        self.items.retain(|_, (statement, _)| statement.claim.subject() != peer && statement.claim.author() != peer);
    }

    /// Puts into a packet what fits, but nothing that its receiver has said itself. What was told `times` times is not told any
    /// more.
    pub fn fill(&mut self, draft: &mut Draft, to: PeerId, times: u32) {
        let mut order: Vec<(u32, Topic)> = self.items.iter().map(|(topic, (_, told))| (*told, *topic)).collect();
        order.sort_unstable();
        for (_, topic) in order {
            let Some((statement, told)) = self.items.get_mut(&topic) else { continue };
            // Whoever said it knows it: one that needs not be told any more.
            if statement.claim.author() != to && !draft.push(statement) {
                break;
            }
            *told += 1;
            if *told >= times {
                self.items.remove(&topic);
            }
        }
    }

    /// Forgets what was told long enough in a group that has become smaller, and everything when there is nobody to tell.
    pub fn retain_untold(&mut self, times: u32) {
        self.items.retain(|_, (_, told)| *told < times);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foca::{Header, Message};

    use super::super::wire::{Node, Packet, Signature};
    use super::*;

    fn node(n: u8) -> Node {
        Node { peer: PeerId::from_bytes([n; 32]), life: 1, renewal: 0 }
    }

    fn alive(n: u8, number: u16) -> Statement {
        Statement { claim: Claim::Alive { node: node(n), number }, signature: Signature([n; 64]) }
    }

    fn accuse(n: u8, by: u8) -> Statement {
        let claim = Claim::Accuse { accused: node(n), number: 0, accuser: node(by).peer };
        Statement { claim, signature: Signature([n; 64]) }
    }

    fn told(news: &mut News, to: u8, limit: usize, times: u32) -> Vec<Claim> {
        let header = Header { src: node(100), src_incarnation: 0, dst: node(to), message: Message::Gossip };
        let mut draft = Draft::new(header, 0, None, None, limit);
        news.fill(&mut draft, node(to).peer, times);
        let bytes = draft.finish(|_| Signature([0; 64]));
        Packet::decode(&bytes, limit).unwrap().statements.iter().map(|statement| statement.claim).collect()
    }

    #[test]
    fn what_only_its_author_is_left_to_be_told_is_not_told_for_ever() {
        let mut news = News::new(8);
        news.add(alive(1, 0));
        for _ in 0..4 {
            assert_eq!(told(&mut news, 1, 1200, 4), []);
        }
        assert!(news.is_empty());
    }

    #[test]
    fn everything_is_told_so_many_times_and_the_least_told_first() {
        let mut news = News::new(10);
        news.add(alive(1, 0));
        assert_eq!(told(&mut news, 50, 300, 3), [alive(1, 0).claim]);
        news.add(alive(2, 0));
        assert_eq!(told(&mut news, 50, 300, 3), [alive(2, 0).claim]);
        assert_eq!(told(&mut news, 50, 1200, 3).len(), 2);
        assert_eq!(told(&mut news, 50, 300, 3), [alive(1, 0).claim]);
        assert_eq!(told(&mut news, 50, 1200, 3), [alive(2, 0).claim]);
        assert!(news.is_empty());
    }

    #[test]
    fn newer_news_replaces_older_and_an_answer_ends_accusations() {
        let mut news = News::new(10);
        news.add(alive(1, 0));
        news.add(alive(1, 1));
        news.add(accuse(2, 3));
        news.add(accuse(2, 4));
        assert_eq!(news.len(), 3);
        news.drop_accusations(node(2).peer);
        assert_eq!(told(&mut news, 50, 1200, 9), [alive(1, 1).claim]);
    }

    #[test]
    fn nobody_is_told_what_it_said_itself() {
        let mut news = News::new(10);
        news.add(accuse(1, 2));
        assert_eq!(told(&mut news, 2, 1200, 9), []);
        assert_eq!(told(&mut news, 1, 1200, 9).len(), 1);
    }

    #[test]
    fn there_is_never_more_than_allowed() {
        let mut news = News::new(3);
        (0..20).for_each(|n| news.add(alive(n, 0)));
        assert_eq!(news.len(), 3);
        assert!(told(&mut news, 50, 1200, 9).contains(&alive(19, 0).claim));
    }
}
