//! `bowline status`.

use std::io::IsTerminal as _;
use std::time::Duration;

use bowline_messages::config::parse_duration;
use bowline_messages::link::FailedLink;
use bowline_messages::repair::BreakerState;
use bowline_messages::session::LinkRank;
use bowline_messages::{MessageClass, TransportKind};
use hyper::Method;

use super::output::{Table, line, with_schema};
use super::{Global, health, human};
use crate::control::client::Content;
use crate::control::protocol::StatusReport;
use crate::control::report::{LinkReport, SessionReport};
use crate::exit::{Exit, Failure};

/// Moves the cursor home and clears what is below it.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Show the running node, its sessions and their links
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it again and again, every second or as often as given here
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = parse_duration)]
    watch: Option<Duration>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    global.block_on(async {
        loop {
            let client = global.client().await?;
            let status: StatusReport = client.call(Method::GET, "/v1/status", Content::Nothing, global.timeout).await?;
            if global.json {
                line(&with_schema("status", &status)?.to_string())?;
            } else {
                let clear = if args.watch.is_some() && std::io::stdout().is_terminal() { CLEAR } else { "" };
                line(&format!("{clear}{}", text(&status).trim_end()))?;
            }
            match args.watch {
                Some(interval) => tokio::time::sleep(interval.max(Duration::from_millis(100))).await,
                None => return Ok(Exit::Ok),
            }
        }
    })
}

/// The status for people.
fn text(status: &StatusReport) -> String {
    let node = &status.node;
    let mut text = format!("node {}, up {}, pid {}\n", node.peer, human::span(node.uptime), node.pid);
    for address in &node.listening {
        text.push_str(&format!("  listening on {address}\n"));
    }
    text.push_str(&troubles(status));
    if status.sessions.is_empty() {
        text.push_str("no sessions\n");
    }
    for session in &status.sessions {
        text.push('\n');
        text.push_str(&session_text(session));
    }
    text
}

/// Transports that are wedged.
fn silent(transports: &[TransportKind]) -> String {
    transports.iter().map(|kind| format!("  {kind}: does not answer\n")).collect()
}

/// Breakers that are not closed, and what was repaired: nothing, as long as all is well.
fn troubles(status: &StatusReport) -> String {
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mut text = silent(&status.transports_silent);
    for transport in &status.transports {
        if transport.breaker != BreakerState::Closed {
            text.push_str(&format!("  {}: breaker {}\n", transport.kind, word(&transport.breaker)));
        }
        if !transport.hosts_paused.is_empty() {
            text.push_str(&format!("  {}: left alone: {}\n", transport.kind, transport.hosts_paused.join(", ")));
        }
    }
    for repair in &status.repairs {
        let Some(last) = repair.attempts.last() else { continue };
        let peer = repair.subject.peer.map(|peer| format!(" to {}", peer.short())).unwrap_or_default();
        let end = if repair.unrepairable { ", beyond repair for now" } else { "" };
        text.push_str(&format!(
            "  {}{peer}: {} repairs, the last {} ago: {} ({}), {}{end}\n",
            repair.subject.transport,
            repair.attempts.len(),
            human::span(last.ago),
            word(&last.repair),
            word(&last.diagnosis),
            word(&last.outcome),
        ));
    }
    text
}

/// One session and its links.
pub(crate) fn session_text(session: &SessionReport) -> String {
    let state = if session.connected { "connected" } else { "no link" };
    let name = session.name.as_ref().map(|name| format!("{name} = ")).unwrap_or_default();
    let mut text = format!("{name}{}: {state}\n", session.peer);
    text.push_str(&format!(
        "  messages: {} acknowledged of {} sent, {} received; {} wait ({}); {} failovers, {} duplicates dropped\n",
        session.messages_acknowledged,
        session.messages_accepted,
        session.messages_delivered,
        session.queued_messages,
        human::bytes(session.queued_bytes as u64),
        session.failovers,
        session.duplicates_dropped,
    ));
    text.push_str(&links_table(&session.links));
    for failed in &session.failed {
        text.push_str(&failed_line(failed));
    }
    text
}

/// A link that died and stands not again yet.
fn failed_line(failed: &FailedLink) -> String {
    let state = format!("{:?}", failed.state).to_lowercase();
    let (transport, remote, attempts) = (&failed.info.transport, &failed.info.remote, failed.attempts);
    format!(
        "  {} over {transport} to {remote}: {state} ({}), dialled {attempts} times since\n",
        failed.info.id, failed.reason
    )
}

/// The links of a session.
pub(crate) fn links_table(links: &[LinkReport]) -> String {
    let mut table = Table::new([
        "  link",
        "state",
        "remote",
        "rtt",
        "jitter",
        "loss",
        "sent",
        "received",
        "score",
        "quality",
        "last finding",
    ]);
    for link in links {
        table.row([
            format!("  {}", link.id),
            format!("{:?}", link.state).to_lowercase(),
            link.remote.to_string(),
            human::maybe_micros(link.rtt_us),
            human::maybe_micros(link.jitter_us),
            link.loss_ratio.map_or_else(|| "-".into(), |loss| format!("{:.1} %", loss * 100.0)),
            human::bytes(link.bytes_sent),
            human::bytes(link.bytes_received),
            score(link, MessageClass::Realtime),
            health::quality(link),
            health::last_finding(link),
        ]);
    }
    if table.is_empty() { String::new() } else { table.print() }
}

/// What a link is worth for a class, with a sign where others come first whatever their scores.
pub(crate) fn score(link: &LinkReport, class: MessageClass) -> String {
    let found = link.scores.iter().find(|score| score.class == class);
    let Some((rank, score)) = found.and_then(|found| Some((found.rank, found.score?))) else { return "-".into() };
    let sign = match rank {
        LinkRank::Suspected => "!",
        LinkRank::Missing => "-",
        LinkRank::Unmeasured | LinkRank::Measured => "",
    };
    // Where a score is a share of something very small, only its order says something: two digits of it are enough to see that.
    if score > 0.0 && score < 0.01 { format!("{sign}{score:.1e}") } else { format!("{sign}{score:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_that_does_not_answer_is_named() {
        assert_eq!(silent(&[]), "");
        assert_eq!(silent(&[TransportKind::new("tcp")]), "  tcp: does not answer\n");
    }
}
