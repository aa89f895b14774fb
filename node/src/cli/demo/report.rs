//! What the demonstration comes to. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Fault;
use super::protocol::{Arrival, FileReport, Kind, Sent};
use super::tally::{Count, longest_gap};
use crate::cli::bench::measure::{median, rounded};

/// How long after a fault a change of the link counts as its consequence, in nanoseconds: later ones are preferences.
const CHANGE_OVER_NS: u64 = 1_000_000_000;

/// Something died, and how long no dice arrived.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Failover {
    /// When, in seconds from the start of the traffic.
    pub at_s: f64,
    /// What died.
    pub fault: Fault,
    /// The link that the last dice roll before it came over, by its transport.
    pub from: Option<String>,
    /// The first other one that dice came over within a second; the same one when there was none, `null` when no dice came.
    pub to: Option<String>,
    /// The longest time without a dice roll from then to the next fault, in milliseconds; `null` when none arrived any more. Ten is
    /// the pace at which they are sent.
    pub gap_ms: Option<f64>,
    /// The moment, on the monotonic clock.
    #[serde(skip)]
    pub mono_ns: u64,
}

/// Everything the two nodes know in the end.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// What the nodes have sent.
    pub sent: Vec<Sent>,
    /// What arrived, node by node.
    pub received: Vec<Vec<(Kind, Count)>>,
    /// The file as it arrived.
    pub file: Option<FileReport>,
    /// The dice that arrived, in order.
    pub arrivals: Vec<Arrival>,
    /// Actors that supervisors restarted.
    pub restarts: u64,
    /// What died.
    pub failovers: Vec<Failover>,
    /// How long the traffic lasted.
    pub length: Duration,
    /// Bytes that passed the forwarder, both ways.
    pub wire_bytes: u64,
    /// Why it came to an early end.
    pub failure: Option<String>,
}

/// The closing report; its fields are part of the race contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    /// Messages that `send` accepted, at both nodes.
    pub sent: u64,
    /// Those that reached the application at the other node.
    pub delivered: u64,
    /// Those whose receipt says so.
    pub acknowledged: u64,
    /// Those that did not.
    pub lost: u64,
    /// Arrivals beyond the first.
    pub duplicated: u64,
    /// Messages that arrived after a later one of their channel.
    pub out_of_order: u64,
    /// What died, and how well it was hidden.
    pub failovers: Vec<Failover>,
    /// Actors that supervisors restarted.
    pub restarts: u64,
    /// The median of the gaps, in milliseconds.
    pub gap_median_ms: Option<f64>,
    /// The worst gap, in milliseconds.
    pub gap_worst_ms: Option<f64>,
    /// Bytes of the file that arrived.
    pub file_bytes: u64,
    /// The digest of what arrived, BLAKE3 in hexadecimal.
    pub digest: Option<String>,
    /// Whether it is the digest of what was sent.
    pub digest_ok: bool,
    /// Bytes that passed the sockets between the nodes, both ways.
    pub wire_bytes: u64,
    /// Seconds of traffic.
    pub seconds: f64,
    /// Why it came to an early end, if it did.
    pub failure: Option<String>,
}

impl Books {
    /// Balances them.
    pub fn close(mut self) -> Closing {
        self.judge_failovers();
        let sum = |of: fn(&Sent) -> Vec<u64>| self.sent.iter().flat_map(of).sum::<u64>();
        let sent = sum(|sent| sent.accepted.values().copied().collect());
        let acknowledged = sum(|sent| sent.acknowledged.values().copied().collect());
        let counts = || self.received.iter().flatten().map(|(_, count)| *count);
        let delivered: u64 = counts().map(|count| count.delivered).sum();
        let source = self.sent.iter().find_map(|sent| sent.file.as_ref());
        let digest_ok = match (source, &self.file) {
            (Some(source), Some(file)) => {
                file.error.is_none() && source.error.is_none() && source.digest == file.digest
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let gaps: Vec<f64> = self.failovers.iter().filter_map(|failover| failover.gap_ms).collect();
        Closing {
            sent,
            delivered,
            acknowledged,
            lost: sent.saturating_sub(delivered),
            duplicated: counts().map(|count| count.duplicated).sum(),
            out_of_order: counts().map(|count| count.out_of_order).sum(),
            gap_median_ms: median(&gaps).map(rounded),
            gap_worst_ms: gaps.iter().copied().reduce(f64::max),
            file_bytes: self.file.as_ref().map_or(0, |file| file.bytes),
            digest: self.file.map(|file| file.digest),
            digest_ok,
            failovers: self.failovers,
            restarts: self.restarts,
            wire_bytes: self.wire_bytes,
            seconds: rounded(self.length.as_secs_f64()),
            failure: self.failure,
        }
    }

    /// Finds the gap behind each fault and where the dice went, as far as arrivals are known.
    pub fn judge_failovers(&mut self) {
        let ends: Vec<u64> = self.failovers.iter().skip(1).map(|next| next.mono_ns).chain([u64::MAX]).collect();
        for (failover, until) in self.failovers.iter_mut().zip(ends) {
            let gap = longest_gap(&self.arrivals, |arrival| arrival.0, failover.mono_ns, until);
            failover.gap_ms = gap.map(|gap| rounded(gap as f64 / 1e6));
            let (before, after) =
                self.arrivals.split_at(self.arrivals.partition_point(|arrival| arrival.0 <= failover.mono_ns));
            let soon = until.min(failover.mono_ns.saturating_add(CHANGE_OVER_NS));
            let over = || after.iter().take_while(|arrival| arrival.0 < soon).map(|arrival| &arrival.1);
            failover.from = before.last().map(|arrival| arrival.1.clone());
            let other = over().find(|over| Some(*over) != failover.from.as_ref());
            failover.to = other.or_else(|| over().next()).cloned();
        }
    }
}

impl Closing {
    /// Whether nothing was lost, nothing came twice or in disorder, and the file is what it was.
    pub fn is_clean(&self) -> bool {
        self.failure.is_none() && self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.digest_ok
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let ms = |value: Option<f64>| value.map_or_else(|| "not known".to_owned(), |ms| format!("{ms:.0} ms"));
        let mut lines = vec![
            format!("messages    {} sent, {} delivered, {} acknowledged", self.sent, self.delivered, self.acknowledged),
            format!(
                "            {} lost, {} duplicated, {} out of order",
                self.lost, self.duplicated, self.out_of_order
            ),
            format!(
                "failovers   {}, gap between dice rolls: median {}, worst {} (sent every 10 ms)",
                self.failovers.len(),
                ms(self.gap_median_ms),
                ms(self.gap_worst_ms)
            ),
            format!(
                "file        {:.1} MB, digest {} {}",
                self.file_bytes as f64 / 1e6,
                self.digest.as_deref().map_or("none", |digest| &digest[..digest.len().min(16)]),
                if self.digest_ok { "as sent" } else { "DIFFERS from what was sent" }
            ),
            format!("on the wire {:.1} MB in {:.1} s", self.wire_bytes as f64 / 1e6, self.seconds),
        ];
        if let Some(failure) = &self.failure {
            lines.push(format!("FAILED      {failure}"));
        } else if self.is_clean() {
            lines.push("Nothing was lost.".to_owned());
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let file = FileReport { bytes: 5, digest: "ab".into(), error: None };
        let sent = Sent {
            accepted: [(Kind::Dice, 4)].into(),
            acknowledged: [(Kind::Dice, 4)].into(),
            file: Some(file.clone()),
        };
        let count = Count { delivered: 4, ..Count::default() };
        let failover = |ms: u64| Failover { at_s: ms as f64 / 1e3, mono_ns: ms * 1_000_000, ..Failover::default() };
        Books {
            sent: vec![sent],
            received: vec![vec![(Kind::Dice, count)]],
            file: Some(file),
            arrivals: [(0, "tcp"), (10, "tcp"), (45, "tcp"), (46, "ws"), (60, "quic"), (70, "quic")]
                .map(|(ms, over)| Arrival(ms * 1_000_000, over.to_owned()))
                .to_vec(),
            failovers: vec![failover(15), failover(50)],
            ..Books::default()
        }
    }

    #[test]
    fn a_clean_run_balances() {
        let closing = books().close();
        assert!(closing.is_clean(), "{closing:?}");
        assert_eq!((closing.sent, closing.delivered, closing.lost), (4, 4, 0));
        assert_eq!((closing.gap_median_ms, closing.gap_worst_ms), (Some(24.5), Some(35.0)));
    }

    #[test]
    fn the_first_other_link_soon_after_a_fault_is_where_the_dice_went() {
        let over = |books: Books| -> Vec<(Option<String>, Option<String>)> {
            books.close().failovers.into_iter().map(|failover| (failover.from, failover.to)).collect()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(over(books()), [(name("tcp"), name("ws")), (name("ws"), name("quic"))]);
        let mut late = books();
        late.arrivals = [(0, "tcp"), (20, "tcp"), (30, "tcp"), (60, "tcp"), (1500, "ws")]
            .map(|(ms, over)| Arrival(ms * 1_000_000, over.to_owned()))
            .to_vec();
        assert_eq!(over(late), [(name("tcp"), name("tcp")), (name("tcp"), name("tcp"))], "later is a preference");
        assert_eq!(over(Books { arrivals: Vec::new(), ..books() }), [(None, None), (None, None)]);
    }

    #[test]
    fn a_loss_or_a_wrong_digest_shows() {
        let mut lossy = books();
        lossy.sent[0].accepted.insert(Kind::Bet, 1);
        let closing = lossy.close();
        assert_eq!((closing.lost, closing.is_clean()), (1, false));

        let mut wrong = books();
        wrong.file = Some(FileReport { bytes: 5, digest: "cd".into(), error: None });
        assert!(!wrong.close().is_clean());
        let mut missing = books();
        missing.file = None;
        assert!(!missing.close().digest_ok);
    }

    #[test]
    fn the_fields_of_the_race_contract_are_there() {
        let value = serde_json::to_value(books().close()).unwrap_or_default();
        for field in ["sent", "delivered", "lost", "duplicated", "out_of_order", "failovers", "digest_ok"] {
            assert!(value.get(field).is_some(), "{field}");
        }
    }
}
