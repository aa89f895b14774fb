//! `bowline receive`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bowline_messages::config::parse_size;
use hyper::Method;
use indicatif::ProgressBar;

use super::output::{line, with_schema};
use super::{Global, human, progress};
use crate::control::client::Content;
use crate::control::protocol::{FileEvent, FileEventKind, ReceiveAsked, ReceiveLine};
use crate::exit::{Exit, Failure};

/// Receive files from accepted peers into a folder, until interrupted
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The largest file, as in 10MiB [default: receive.bytes_max]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max: Option<u64>,
    /// Replace files of the same name; otherwise new ones get another name
    #[arg(long)]
    overwrite: bool,
    /// End after so many files, with exit code 0 when all are complete
    #[arg(long, value_name = "FILES", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let dir = std::path::absolute(&args.dir).map_err(|error| Failure::at(&args.dir, &error, Exit::Usage))?;
    let asked = ReceiveAsked { dir, bytes_max: args.max, overwrite: args.overwrite.then_some(true) };
    let mut shown = Shown { global, bars: BTreeMap::new(), ended: 0, failed: 0 };
    let watched = async {
        let client = global.client().await?;
        let mut lines = client.lines(Method::POST, "/v1/receive", Content::json(&asked)?, None).await?;
        while let Some(event) = lines.next::<ReceiveLine>().await? {
            match event {
                ReceiveLine::Ready { ready } => {
                    if global.json {
                        line(
                            &with_schema("receive", &serde_json::json!({ "event": "ready", "dir": ready }))?
                                .to_string(),
                        )?;
                    }
                    global.output().remark(&format!("receiving into {}; Ctrl-C to end", ready.display()));
                }
                ReceiveLine::File(event) => shown.show(&event)?,
            }
            if args.count.is_some_and(|count| shown.ended >= count) {
                break;
            }
        }
        Ok(())
    };
    let limited = async {
        match global.timeout {
            Some(limit) => tokio::time::timeout(limit, watched)
                .await
                .unwrap_or_else(|_| Err(Failure::new(Exit::TimedOut, format_args!("not done after {limit:?}")))),
            None => watched.await,
        }
    };
    global.block_on(limited)?;
    Ok(if shown.failed == 0 { Exit::Ok } else { Exit::False })
}

/// What is on the screen.
struct Shown<'a> {
    global: &'a Global,
    bars: BTreeMap<u64, ProgressBar>,
    ended: u32,
    failed: u32,
}

impl Shown<'_> {
    fn show(&mut self, event: &FileEvent) -> Result<(), Failure> {
        let name = human::harmless(&event.name);
        if let (true, false) = (self.global.json, matches!(event.kind, FileEventKind::Progress { .. })) {
            line(&with_schema("receive", event)?.to_string())?;
        }
        match &event.kind {
            FileEventKind::Begun { bytes } => {
                let bar = progress::bar(self.global.output().draws(), &name, *bytes);
                self.bars.insert(event.transfer, bar);
            }
            FileEventKind::Progress { bytes } => {
                if let Some(bar) = self.bars.get(&event.transfer) {
                    bar.set_position(*bytes);
                }
            }
            FileEventKind::Stored { path, bytes, .. } => {
                self.end(event.transfer);
                let text = format!("{} ({}, from {})", path.display(), human::bytes(*bytes), event.peer.short());
                if !self.global.json {
                    line(&human::harmless(&text))?;
                }
            }
            FileEventKind::Failed { reason } => {
                self.failed += 1;
                self.end(event.transfer);
                self.global.output().remark(&format!("{name} from {} failed: {reason}", event.peer.short()));
            }
        }
        Ok(())
    }

    fn end(&mut self, transfer: u64) {
        self.ended += 1;
        if let Some(bar) = self.bars.remove(&transfer) {
            bar.finish_and_clear();
        }
    }
}
