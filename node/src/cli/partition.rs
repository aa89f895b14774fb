//! `bowline partition`.

use bowline_messages::PeerId;
use bowline_messages::partition::{SplitShape, Standing, StatementReport};
use clap::Subcommand;
use hyper::Method;

use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::{GroupStatus, TrustAsked};
use crate::exit::{Exit, Failure};

/// Say how the running node's group stands: who may act, who is out of reach, what is done about it, who misbehaved
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say how the group stands, and why
    Explain,
    /// Hold the proofs against a peer against it no more, on this node: it is listened to again. Who is out of the participants stays out
    Pardon {
        /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
        peer: String,
    },
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let status: GroupStatus = match args.action {
        Action::Explain => global.call(Method::GET, "/v1/group", Content::Nothing, None)?,
        Action::Pardon { peer } => {
            global.call(Method::POST, "/v1/group/pardon", Content::json(&TrustAsked { peer })?, None)?
        }
    };
    global.output().result("partition", &status, || explain(&status))?;
    Ok(if status.report.running { Exit::Ok } else { Exit::False })
}

fn explain(status: &GroupStatus) -> String {
    let (report, log) = (&status.report.partition, &status.report.log);
    let name = |peer: &PeerId| {
        let who = status.names.get(peer).cloned().unwrap_or_else(|| peer.to_string());
        if *peer == status.me { format!("{who} (this node)") } else { who }
    };
    let names = |peers: &[PeerId]| peers.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut lines = vec![standing(&report.standing, &name)];
    if !status.report.running {
        lines.push("the application is paused: nothing is taken on".to_owned());
    }
    lines.push(match report.shape {
        None if report.missing.is_empty() => {
            format!("all {} participants are in reach", status.report.participants.len())
        }
        None => format!("out of reach, but not too many: {}", names(&report.missing)),
        Some(shape) => {
            let stage = if report.split { "the group is split" } else { "the group may be split" };
            format!("{stage}{}; out of reach: {}", shape_text(shape), names(&report.missing))
        }
    });
    if let Some((strategy, attempt)) = report.strategy {
        lines.push(format!("what is done: {strategy}, attempt {attempt}"));
    }
    if let Some(step) = report.recovery {
        lines.push(format!("recovery: {step:?}"));
    }
    for (peer, kind, count) in &report.evidence {
        lines.push(format!("proven against {}: it {kind}, {count} times", name(peer)));
        let shown = report.proofs.iter().filter(|proof| (proof.peer, proof.kind) == (*peer, *kind));
        lines.extend(shown.flat_map(|proof| &proof.statements).map(signed));
    }
    if !report.excluded.is_empty() {
        lines.push(format!("excluded: {}", names(&report.excluded)));
    }
    if !report.others.is_empty() {
        let whose = names(&report.others);
        lines.push(format!("not counted, since another list of participants is in the configuration there: {whose}"));
    }
    let leader =
        log.leader.as_ref().map_or_else(|| "nobody leads".to_owned(), |leader| format!("led by {}", name(leader)));
    lines.push(format!(
        "log: {leader}, term {}, {} committed of {}; {} commands carried out, {} open",
        log.term, log.committed.index, log.last.index, status.report.carried_out, status.report.open
    ));
    let metrics = &report.metrics;
    lines.push(format!(
        "since the start: {} splits ({} in all), {} suspicions cleared, {} recoveries, {} packets refused",
        metrics.splits,
        human::span(metrics.split_time),
        metrics.suspicions_cleared,
        metrics.recoveries.iter().sum::<u64>(),
        metrics.refused
    ));
    lines.join("\n")
}

/// Digits of a signature that people are shown; `--json` has all.
const SIGNATURE_SHOWN: usize = 16;

fn signed(statement: &StatementReport) -> String {
    let StatementReport { incarnation, count, says, signature, .. } = statement;
    let signature = signature.get(..SIGNATURE_SHOWN).unwrap_or(signature);
    format!("  as number {incarnation}.{count} it signed: {}; signature {signature}…", human::harmless(says))
}

fn standing(standing: &Standing, name: &impl Fn(&PeerId) -> String) -> String {
    match standing {
        Standing::Holder { term, remaining } => {
            format!("active: this node holds the lease, {term}, for another {}", human::span(*remaining))
        }
        Standing::Member { term, holder, remaining } => {
            format!("active: {} holds the lease, {term}, for another {}", name(holder), human::span(*remaining))
        }
        Standing::Paused => {
            "paused: this side has no lease, so a majority is out of reach, or has yet to grant one".to_owned()
        }
    }
}

const fn shape_text(shape: SplitShape) -> &'static str {
    match shape {
        SplitShape::Clean => "",
        SplitShape::Partial => ", partially: somebody in reach reaches some of the others",
        SplitShape::OneWay => ", one way: some hear without being heard",
    }
}
