//! `bowline members`.

use bowline_messages::membership::MemberState;
use hyper::Method;

use super::output::Table;
use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::MemberReport;
use crate::exit::{Exit, Failure};

/// List who belongs to the network that the running node is part of, and who is gone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, global: &Global) -> Result<Exit, Failure> {
    let members: Vec<MemberReport> = global.call(Method::GET, "/v1/members", Content::Nothing, None)?;
    let value = serde_json::json!({ "members": members });
    global.output().result("members", &value, || {
        let mut table = Table::new(["name", "peer", "state", "heard", "why"]);
        for MemberReport { name, member } in &members {
            let why = member.failure.filter(|_| member.state == MemberState::Down);
            table.row([
                name.clone().unwrap_or_else(|| "-".into()),
                member.peer.to_string(),
                member.state.to_string(),
                member.heard.map_or_else(|| "never".into(), |ago| format!("{} ago", human::span(ago))),
                why.map_or_else(String::new, |why| why.kind.to_string()),
            ]);
        }
        if table.is_empty() { "nobody but this node".to_owned() } else { table.print() }
    })?;
    Ok(Exit::Ok)
}
