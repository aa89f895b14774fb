//! What the demonstration shows while it runs. Pure: a view in, lines out.

use std::time::Duration;

use super::protocol::{Kind, LinkLine, Status};
use super::report::Failover;

/// Failovers that the timeline shows at once, the latest ones.
const TIMELINE_LINES: usize = 14;
/// Characters of the bar that stands for the longest gap on the screen.
const BAR_CHARS: f64 = 30.0;

/// What is to be shown.
#[derive(Debug)]
pub struct View<'a> {
    /// Time since the traffic began.
    pub elapsed: Duration,
    /// How long it is to last.
    pub length: Duration,
    /// The sending node and the receiving one.
    pub nodes: [&'a Status; 2],
    /// The paths between them, in the order in which they are shown.
    pub paths: Vec<PathLine>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What died so far.
    pub failovers: &'a [Failover],
    /// Whether colours may be used.
    pub colour: bool,
}

/// One path through the forwarder.
#[derive(Debug, Clone, Default)]
pub struct PathLine {
    /// The transport over it.
    pub transport: String,
    /// Whether nothing passes at the moment.
    pub silent: bool,
    /// The link over it as the sending node sees it, when there is one.
    pub link: Option<LinkLine>,
    /// Whether the dice go over it.
    pub in_use: bool,
}

impl View<'_> {
    /// The whole screen, line by line.
    pub fn lines(&self) -> Vec<String> {
        let [near, far] = self.nodes;
        let links = near.links.iter().filter(|link| link.is_usable()).count();
        let mut lines = vec![
            self.bold(&format!(
                "bowline demo   {:.1} of {:.0} s   two processes, one session, {links} links",
                self.elapsed.as_secs_f64(),
                self.length.as_secs_f64()
            )),
            String::new(),
        ];
        lines.extend(self.paths.iter().map(|path| self.path(path)));
        lines.push(String::new());
        for kind in Kind::ALL {
            let sum = |node: &Status, received: bool| {
                let counts = if received { &node.received } else { &node.sent };
                counts.get(&kind).copied().unwrap_or(0)
            };
            let (sent, received) = (sum(near, false) + sum(far, false), sum(near, true) + sum(far, true));
            lines.push(format!("  {:<6}{sent:>8} sent {received:>8} arrived", kind.name()));
        }
        let share = if self.file_bytes == 0 { 1.0 } else { far.file_bytes as f64 / self.file_bytes as f64 };
        let (done, total) = (far.file_bytes as f64 / 1e6, self.file_bytes as f64 / 1e6);
        lines.push(format!("  file  {} {done:>6.1} of {total:.0} MB", bar(share * BAR_CHARS, BAR_CHARS)));
        lines.push(String::new());
        lines.push(self.bold("     at   what died                    dice over        gap"));
        let worst = self.failovers.iter().filter_map(|failover| failover.gap_ms).fold(50.0, f64::max);
        let skipped = self.failovers.len().saturating_sub(TIMELINE_LINES);
        lines.extend(self.failovers.iter().skip(skipped).map(|failover| {
            let drawn = failover.gap_ms.map(|gap| bar(gap / worst * BAR_CHARS, 0.0)).unwrap_or_default();
            format!("{} {drawn}", timeline(failover))
        }));
        lines
    }

    fn path(&self, path: &PathLine) -> String {
        let (state, rtt) = path.link.as_ref().map_or(("-", None), |link| (link.state.as_str(), link.rtt_ms));
        let usable = path.link.as_ref().is_some_and(LinkLine::is_usable);
        let sign = match (usable, path.silent) {
            (true, false) => self.paint("●", "32"),
            (true, true) => self.paint("●", "33"),
            (false, _) => self.paint("○", "31"),
        };
        let rtt = rtt.map_or_else(String::new, |rtt| format!("rtt {rtt:.2} ms"));
        let silent = if path.silent { self.paint("silent", "33") } else { String::new() };
        let in_use = if path.in_use { self.bold("◄ dice") } else { String::new() };
        format!("  {sign} {:<5} {state:<13} {rtt:<13} {in_use} {silent}", path.transport).trim_end().to_owned()
    }

    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One failover as a line, on the screen and where there is none.
pub fn timeline(failover: &Failover) -> String {
    let from = failover.from.as_deref().unwrap_or("-");
    let over = match failover.to.as_deref() {
        Some(to) if Some(to) != failover.from.as_deref() => format!("{from} → {to}"),
        Some(_) | None => from.to_owned(),
    };
    let gap = failover.gap_ms.map_or_else(|| "…".to_owned(), |gap| format!("{gap:.0} ms"));
    format!("  {:>4.0} s   {:<26}   {over:<14} {gap:>8}", failover.at_s, failover.fault.name())
}

fn bar(filled: f64, width: f64) -> String {
    let filled = filled.max(0.0).round() as usize;
    let empty = (width as usize).saturating_sub(filled);
    "█".repeat(filled) + &"░".repeat(empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::demo::plan::Fault;

    #[test]
    fn the_screen_shows_links_traffic_and_failovers() {
        let link = LinkLine { remote: "tcp://127.0.0.1:1".parse().unwrap(), state: "active".into(), rtt_ms: Some(0.4) };
        let near = Status { links: vec![link.clone()], sent: [(Kind::Dice, 12)].into(), ..Status::default() };
        let far = Status { received: [(Kind::Dice, 11)].into(), file_bytes: 5_000_000, ..Status::default() };
        let failover = Failover {
            at_s: 2.0,
            fault: Fault::BlackHole,
            from: Some("tcp".into()),
            to: Some("quic".into()),
            gap_ms: Some(31.4),
            mono_ns: 0,
        };
        let view = View {
            elapsed: Duration::from_secs(3),
            length: Duration::from_secs(30),
            nodes: [&near, &far],
            paths: vec![PathLine { transport: "tcp".into(), silent: true, link: Some(link), in_use: true }],
            file_bytes: 10_000_000,
            failovers: std::slice::from_ref(&failover),
            colour: false,
        };
        let text = view.lines().join("\n");
        for part in
            ["3.0 of 30 s", "● tcp   active", "◄ dice silent", "12 sent", "11 arrived", "5.0 of 10 MB", "tcp → quic"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        assert!(timeline(&failover).ends_with("31 ms"));
    }
}
