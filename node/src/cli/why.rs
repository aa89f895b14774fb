//! `bowline why`.

use std::time::Duration;

use bowline_actors::session::trust::{SCORE_EXCLUDED, SCORE_NEUTRAL};
use bowline_messages::MessageClass;
use hyper::Method;

use super::output::Table;
use super::status::links_table;
use super::{Global, health, human, status};
use crate::control::client::Content;
use crate::control::protocol::{DialReport, WhyReport};
use crate::control::report::LinkReport;
use crate::exit::{Exit, Failure};

/// Say which links there are to a peer, their scores, and the rule that chose
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
    peer: String,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let path = format!("/v1/why?{}", super::query(&[("peer", &args.peer)]));
    let why: WhyReport = global.call(Method::GET, &path, Content::Nothing, None)?;
    global.output().result("why", &why, || text(&why))?;
    Ok(if why.session.connected { Exit::Ok } else { Exit::False })
}

/// How the dials of a peer without a usable link stand.
fn attempts(dials: &[DialReport]) -> String {
    if dials.is_empty() {
        return "  no address of it is known: it has to dial, or `bowline connect PEER --to URI` says where it is\n"
            .to_owned();
    }
    dials.iter().map(|dial| format!("  {}: {}\n", dial.address, attempt(dial))).collect()
}

fn attempt(dial: &DialReport) -> String {
    let ago = |us: u64| human::span(Duration::from_micros(us));
    let error = || human::harmless(dial.error.as_deref().unwrap_or("nobody remembers why"));
    let mut parts = Vec::new();
    parts.push(match (dial.failures, dial.failed_ago_us) {
        (0, None) if dial.under_way => "never reached yet".to_owned(),
        (0, None) => "not dialled yet".to_owned(),
        (0, Some(failed)) => format!("failed {} ago: {}", ago(failed), error()),
        (failures, failed) => {
            let last = failed.map(|failed| format!(", last {} ago", ago(failed))).unwrap_or_default();
            format!("failed {failures} times in a row{last}: {}", error())
        }
    });
    parts.push(match dial.next_in_us {
        _ if dial.under_way => "an attempt is under way".to_owned(),
        None | Some(0) => "the next attempt is due".to_owned(),
        Some(next) => format!("next attempt in {}", human::micros(next)),
    });
    parts.join("; ")
}

fn text(WhyReport { session, dials, routes }: &WhyReport) -> String {
    let mut text = format!("{}: ", session.label());
    text.push_str(match session.links.len() {
        0 => "there is no link\n",
        _ if session.connected => "these are its links\n",
        _ => "there is no usable link\n",
    });
    if !session.connected {
        text.push_str(&attempts(dials));
    }
    text.push_str(&links_table(&session.links));
    text.push_str(&scores_table(&session.links));
    if !routes.is_empty() {
        text.push_str("\nways to it through others (costs in tenths of a millisecond)\n");
        for route in routes {
            let hops: Vec<String> = route.hops.iter().map(|peer| peer.short().to_string()).collect();
            text.push_str(&format!("  {}: {}\n", hops.join(" - "), route.cost));
        }
    }
    let health: String = session.links.iter().map(health::paragraphs).collect();
    if !health.is_empty() {
        text.push_str("\nhealth (confidences from 0 to 1, the surest first)\n");
        text.push_str(&health);
    }
    let mut choices = Table::new(["  class", "policy", "links", "because"]);
    // Without a link nothing was chosen, for the same reason for every class.
    for choice in session.choices.iter().filter(|_| !session.links.is_empty()) {
        let links: Vec<String> = choice.links.iter().map(ToString::to_string).collect();
        let links = if links.is_empty() { "-".to_owned() } else { links.join(" ") };
        choices.row([format!("  {:?}", choice.class), format!("{:?}", choice.policy), links, choice.rule.clone()]);
    }
    if !choices.is_empty() {
        text.push_str("\nthe next message of each class would take\n");
        text.push_str(&choices.print());
    }
    text.push_str(&format!("\nthe peer's score is {:.2} (0 to 1; {SCORE_NEUTRAL} at first", session.score));
    text.push_str(&format!(", excluded below {SCORE_EXCLUDED})\n"));
    text
}

/// What the links are worth to each class, with what goes into that.
fn scores_table(links: &[LinkReport]) -> String {
    let mut scores = Table::new([
        "  link",
        "expected delay",
        "flap penalty",
        "in flight",
        "window",
        "realtime",
        "critical",
        "streaming",
        "background",
        "bulk",
    ]);
    for link in links {
        let [realtime, critical, streaming, background, bulk] =
            MessageClass::ALL.map(|class| status::score(link, class));
        scores.row([
            format!("  {}", link.id),
            human::maybe_micros(link.expected_delay_us),
            format!("{:.2}", link.flap_penalty),
            human::bytes(link.in_flight_bytes as u64),
            human::bytes(link.window_bytes as u64),
            realtime,
            critical,
            streaming,
            background,
            bulk,
        ]);
    }
    if scores.is_empty() {
        return String::new();
    }
    format!(
        "\nscores by class (0 to 1, the highest is taken; ! is suspected, - misses a need or is about to fail)\n{}",
        scores.print()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_peer_without_a_link_has_a_reason_for_every_address() {
        assert!(attempts(&[]).contains("no address of it is known"));
        let dial = DialReport {
            address: "tcp://a:1".parse().unwrap(),
            under_way: false,
            failures: 3,
            next_in_us: Some(2_500_000),
            failed_ago_us: Some(4_000_000),
            error: Some("connection refused\u{1b}".into()),
        };
        let text = attempts(std::slice::from_ref(&dial));
        assert!(text.contains("failed 3 times in a row, last 4s ago: connection refused"), "{text}");
        assert!(text.contains("next attempt in 2.50 s") && !text.contains('\u{1b}'), "{text}");
        let first = DialReport { under_way: true, failures: 0, failed_ago_us: None, error: None, ..dial };
        assert_eq!(attempt(&first), "never reached yet; an attempt is under way");
    }
}
