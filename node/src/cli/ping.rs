//! `bowline ping`.

use std::time::Duration;

use bowline_messages::config::parse_duration;
use hyper::Method;
use serde::Serialize;

use super::output::{line, with_schema};
use super::peer::PeerArgs;
use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::{PingAsked, Pong};
use crate::exit::{Exit, Failure};

/// Send pings to a peer's node over the session, and time their answers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    peer: PeerArgs,
    /// How many
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time from one to the next
    #[arg(short, long, default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Bytes in each
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    size: u32,
}

/// What came of all pings.
#[derive(Debug, Default, Serialize)]
struct Summary {
    sent: u32,
    answered: u32,
    min_us: Option<u64>,
    median_us: Option<u64>,
    max_us: Option<u64>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let asked = PingAsked {
        peer: args.peer.asked(global),
        count: args.count,
        interval: args.interval,
        size: args.size as usize,
    };
    let times = global.block_on(async {
        let client = global.client().await?;
        let mut lines = client.lines(Method::POST, "/v1/ping", Content::json(&asked)?, None).await?;
        let mut times = Vec::new();
        while let Some(pong) = lines.next::<Pong>().await? {
            print(&pong, global)?;
            times.push(pong.rtt_us);
        }
        Ok(times)
    })?;
    let summary = summary(&times);
    if global.json {
        line(&with_schema("ping-summary", &summary)?.to_string())?;
    } else {
        let range = summary.min_us.zip(summary.median_us).zip(summary.max_us).map(|((min, median), max)| {
            format!(
                "; fastest {}, median {}, slowest {}",
                human::micros(min),
                human::micros(median),
                human::micros(max)
            )
        });
        line(&format!("{} of {} answered{}", summary.answered, summary.sent, range.unwrap_or_default()))?;
    }
    Ok(if summary.answered > 0 { Exit::Ok } else { Exit::TimedOut })
}

fn print(pong: &Pong, global: &Global) -> Result<(), Failure> {
    if global.json {
        return line(&with_schema("ping", pong)?.to_string());
    }
    if global.quiet {
        return Ok(());
    }
    let via = pong.via.as_ref().map(|via| format!(" over {via}")).unwrap_or_default();
    line(&match pong.rtt_us {
        Some(rtt) => format!("{} {}: {}{via}", pong.peer.short(), pong.seq, human::micros(rtt)),
        None => format!("{} {}: no answer in time", pong.peer.short(), pong.seq),
    })
}

fn summary(times: &[Option<u64>]) -> Summary {
    let mut answered: Vec<u64> = times.iter().copied().flatten().collect();
    answered.sort_unstable();
    Summary {
        sent: u32::try_from(times.len()).unwrap_or(u32::MAX),
        answered: u32::try_from(answered.len()).unwrap_or(u32::MAX),
        min_us: answered.first().copied(),
        median_us: answered.get(answered.len() / 2).copied(),
        max_us: answered.last().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_without_answer_count_as_sent_only() {
        let summary = summary(&[Some(3), None, Some(1), Some(2)]);
        assert_eq!((summary.sent, summary.answered), (4, 3));
        assert_eq!((summary.min_us, summary.median_us, summary.max_us), (Some(1), Some(2), Some(3)));
    }
}
