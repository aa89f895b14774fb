//! `bench drip`: numbered messages at a steady pace, for whoever kills links meanwhile.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use bowline_actors::clock;
use bowline_actors::session::handle::Receipt;
use bowline_messages::LinkId;
use bowline_messages::event::{Event, EventKind};
use bowline_messages::session::{Outgoing, ReceiptState};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::Common;
use super::measure::mono_ns;
use super::peer::{Peer, PeerOptions};
use super::wire::Ask;
use crate::cli::output::line;
use crate::exit::{Exit, Failure};

/// How long the last messages may take.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Milliseconds from one message to the next
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    interval_ms: u64,
    /// Make an actor of this node panic under way: link (the one in use) or session
    #[arg(long, value_name = "ACTOR", requires = "kill_after_ms")]
    kill: Option<Victim>,
    /// When, in milliseconds from the start
    #[arg(long)]
    kill_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Victim {
    Link,
    Session,
}

pub(super) async fn run(args: Args, json: bool) -> Result<Value, Failure> {
    let common = &args.common;
    let witness = Rc::new(RefCell::new(Vec::new()));
    let events = Witness(Rc::clone(&witness)).start().recipient();
    let node = Peer::start(PeerOptions { events: Some(events), ..PeerOptions::default() }).await?;
    let session = node.connect(common.peer, &common.to).await?;
    node.wait_for_links(common.peer, common.to.len()).await;
    let start = json!({ "start_mono_ns": mono_ns() });
    line(&if json { start.to_string() } else { format!("start_mono_ns {}", start["start_mono_ns"]) })?;

    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(common.seconds);
    let mut kill_at = args.kill.zip(args.kill_after_ms.map(|after| begun + Duration::from_millis(after)));
    let mut ticks = interval_at(begun, Duration::from_millis(args.interval_ms));
    // A late message is not made up for by a burst: the pace is what the receiver's gaps are read against.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut receipts: Vec<Receipt> = Vec::new();
    let mut refused = 0_u64;
    let mut killed = None;
    loop {
        tokio::select! {
            biased;
            () = sleep_until(end) => break,
            () = sleep_until(kill_at.map_or(end, |(_, at)| at)), if kill_at.is_some() => {
                if let Some((victim, _)) = kill_at.take() {
                    killed = Some(kill(&node, common, victim).await?);
                }
            }
            _ = ticks.tick() => {
                let payload = Ask::Drip(receipts.len() as u64).encode(common.size as usize);
                let message = Outgoing { policy: common.policy, ..Outgoing::new(common.class, payload) };
                match session.send(message) {
                    Ok(receipt) => receipts.push(receipt),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    let sent_for = clock::now() - begun.into_std();
    // What is not final by then shows below.
    let _ = timeout(DRAIN, session.settled()).await;
    let with = |wanted: ReceiptState| receipts.iter().filter(|receipt| receipt.state() == wanted).count();
    let acknowledged = with(ReceiptState::Acknowledged);
    let failovers = node.status(common.peer).await.map(|status| status.failovers);
    let report = json!({
        "accepted": receipts.len(),
        "acknowledged": acknowledged,
        "undelivered": receipts.len() - acknowledged,
        "refused": refused,
        "unknown": with(ReceiptState::Unknown),
        "not_sent": with(ReceiptState::NotSent),
        "expired": with(ReceiptState::Expired),
        "seconds": super::measure::rounded(sent_for.as_secs_f64()),
        "failovers": failovers,
        "killed": killed.map(|killed| killed.report(&witness.borrow())),
    });
    node.stop().await;
    Ok(report)
}

/// Remembers what supervisors do, as evidence that an actor which was to panic did.
struct Witness(Rc<RefCell<Vec<EventKind>>>);

impl Actor for Witness {
    type Context = Context<Self>;
}

impl Handler<Event> for Witness {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        if matches!(event.kind, EventKind::ChildExited { .. } | EventKind::ChildRestarted { .. }) {
            self.0.borrow_mut().push(event.kind);
        }
    }
}

/// An actor that was told to panic.
struct Killed {
    path: String,
    mono_ns: u64,
    /// The link, if it was one's.
    link: Option<LinkId>,
}

impl Killed {
    /// What became of it, as supervisors say.
    fn report(&self, events: &[EventKind]) -> Value {
        // Events name actors from the root on, orders to kill from below it.
        let is_it = |path: &String| path == &self.path || path.ends_with(&format!("/{}", self.path));
        let exits = events.iter().filter_map(|event| {
            let EventKind::ChildExited { path, reason } = event else { return None };
            is_it(path).then(|| reason.clone())
        });
        let restarts = |event: &&EventKind| matches!(event, EventKind::ChildRestarted { path, .. } if is_it(path));
        json!({
            "actor": self.path,
            "mono_ns": self.mono_ns,
            "link_id": self.link,
            "exits": exits.collect::<Vec<_>>(),
            "restarts": events.iter().filter(restarts).count(),
        })
    }
}

async fn kill(node: &Peer, common: &Common, victim: Victim) -> Result<Killed, Failure> {
    let link = match victim {
        Victim::Session => None,
        Victim::Link => {
            let in_use = node.in_use(common.peer, common.class).await;
            Some(in_use.ok_or_else(|| Failure::new(Exit::False, "no link is in use"))?)
        }
    };
    let mono_ns = mono_ns();
    let path = match link {
        None => node.kill_session(common.peer).await?,
        Some(link) => node.kill_link(common.peer, link).await?,
    };
    Ok(Killed { path, mono_ns, link })
}
