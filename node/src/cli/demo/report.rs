//! What the demonstration comes to. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Fault;
use super::protocol::{FileReport, Kind, Sent};
use super::tally::{Count, longest_gap};
use crate::cli::bench::measure::{median, rounded};

/// Something died, and how long no dice arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// When, in seconds from the start of the traffic.
    pub at_s: f64,
    /// What died.
    pub fault: Fault,
    /// The link that carried the dice then, by its transport.
    pub from: Option<String>,
    /// The one that carried them afterwards.
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
    /// When dice arrived, in nanoseconds, in order.
    pub arrivals: Vec<u64>,
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
            wire_bytes: self.wire_bytes,
            seconds: rounded(self.length.as_secs_f64()),
            failure: self.failure,
        }
    }

    /// Finds the gap behind each fault, as far as arrivals are known.
    pub fn judge_failovers(&mut self) {
        let ends: Vec<u64> = self.failovers.iter().skip(1).map(|next| next.mono_ns).chain([u64::MAX]).collect();
        for (failover, until) in self.failovers.iter_mut().zip(ends) {
            let gap = longest_gap(&self.arrivals, failover.mono_ns, until);
            failover.gap_ms = gap.map(|gap| rounded(gap as f64 / 1e6));
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
        let failover = |ms: u64| Failover {
            at_s: ms as f64 / 1e3,
            fault: Fault::Reset,
            from: None,
            to: None,
            gap_ms: None,
            mono_ns: ms * 1_000_000,
        };
        Books {
            sent: vec![sent],
            received: vec![vec![(Kind::Dice, count)]],
            file: Some(file),
            arrivals: [0, 10, 45, 60, 70].map(|ms| ms * 1_000_000).to_vec(),
            failovers: vec![failover(15), failover(50)],
            ..Books::default()
        }
    }

    #[test]
    fn a_clean_run_balances() {
        let closing = books().close();
        assert!(closing.is_clean(), "{closing:?}");
        assert_eq!((closing.sent, closing.delivered, closing.lost), (4, 4, 0));
        assert_eq!((closing.gap_median_ms, closing.gap_worst_ms), (Some(25.0), Some(35.0)));
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
