//! `bowline why`.

use bowline_actors::session::trust::{SCORE_EXCLUDED, SCORE_NEUTRAL};
use hyper::Method;

use super::output::Table;
use super::status::links_table;
use super::{Global, health, human};
use crate::control::client::Content;
use crate::control::report::SessionReport;
use crate::exit::{Exit, Failure};

/// Say which links there are to a peer, their scores, and the rule that chose
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
    peer: String,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let path = format!("/v1/why?{}", super::query(&[("peer", &args.peer)]));
    let session: SessionReport = global.call(Method::GET, &path, Content::Nothing, None)?;
    global.output().result("why", &session, || text(&session))?;
    Ok(if session.connected { Exit::Ok } else { Exit::False })
}

fn text(session: &SessionReport) -> String {
    let mut text = format!("{}: ", session.label());
    text.push_str(match session.links.len() {
        0 => "there is no link\n",
        _ if session.connected => "these are its links\n",
        _ => "there is no usable link\n",
    });
    text.push_str(&links_table(&session.links));
    let mut scores = Table::new(["  link", "expected delay", "flap penalty", "in flight", "window"]);
    for link in &session.links {
        scores.row([
            format!("  {}", link.id),
            human::maybe_micros(link.expected_delay_us),
            format!("{:.2}", link.flap_penalty),
            human::bytes(link.in_flight_bytes as u64),
            human::bytes(link.window_bytes as u64),
        ]);
    }
    if !scores.is_empty() {
        text.push_str("\nscores (the smallest expected delay is the best)\n");
        text.push_str(&scores.print());
    }
    let health: String = session.links.iter().map(health::paragraphs).collect();
    if !health.is_empty() {
        text.push_str("\nhealth (confidences from 0 to 1, the surest first)\n");
        text.push_str(&health);
    }
    let mut choices = Table::new(["  class", "policy", "links", "because"]);
    for choice in &session.choices {
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
