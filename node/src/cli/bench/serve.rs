//! The process that answers: an actor to which every message of every peer comes, one handler turn each.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use actix::{Actor, ActorFutureExt as _, Context, ContextFutureSpawner as _, Handler, WrapFuture as _};
use bowline_actors::session::handle::SessionHandle;
use bowline_messages::link::LinkInfo;
use bowline_messages::session::{Inbox, Outgoing, Received, SendError};
use bowline_messages::{EndpointAddress, PeerId};
use serde_json::json;

use super::measure::{cpu_time, mono_ns, resident_bytes};
use super::peer::{Peer, PeerOptions};
use super::wire::{Ask, answer};
use crate::cli::demo::tally::Tally;
use crate::cli::output::line;
use crate::exit::{Exit, Failure};

/// Mailbox of the actor: batches of messages that wait for it. A full one is back-pressure.
const MAILBOX: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; may be repeated; port 0 means any free port
    #[arg(long, value_name = "URI", required = true)]
    listen: Vec<EndpointAddress>,
    /// Do not tell callers where this process listens: links go where they say, and nowhere else
    #[arg(long)]
    no_advertise: bool,
    /// Write a line for each message of `bench drip` that arrives
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Serves until it is told to end.
pub(super) async fn run(args: Args, json: bool) -> Result<Exit, Failure> {
    let log = args.log.map(|path| File::create(&path).map_err(|error| Failure::at(&path, &error, Exit::False)));
    let slot = Rc::new(OnceCell::new());
    let actor = ServeActor { node: Rc::clone(&slot), peers: BTreeMap::new(), log: log.transpose()? };
    let address = Actor::create(|ctx: &mut Context<ServeActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        actor
    });
    let options = PeerOptions {
        listen: args.listen,
        inbox: Some(address.recipient()),
        advertise: !args.no_advertise,
        ..PeerOptions::default()
    };
    let node = Peer::start(options).await?;
    let ready = json!({ "ready": true, "peer": node.id(), "addresses": node.addresses() });
    // Comes before any message: nobody can know the address yet.
    let _ = slot.set(node.clone());
    if json {
        line(&ready.to_string())?;
    } else {
        line(&format!("peer {}", node.id()))?;
        for listening in node.addresses() {
            line(&format!("listening on {listening}"))?;
        }
    }
    super::peer::told_to_end().await;
    node.stop().await;
    Ok(Exit::Ok)
}

struct ServeActor {
    /// The node, from when it has started.
    node: Rc<OnceCell<Peer>>,
    peers: BTreeMap<PeerId, Caller>,
    log: Option<File>,
}

/// What is known about one caller.
struct Caller {
    session: SessionHandle,
    tally: Tally,
}

impl Actor for ServeActor {
    type Context = Context<Self>;
}

impl Handler<Inbox> for ServeActor {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, ctx: &mut Self::Context) {
        if self.peers.contains_key(&inbox.peer) {
            return self.serve(inbox);
        }
        let Some(node) = self.node.get().cloned() else { return };
        // Nothing else is handled until the caller is known: the order stays.
        async move { (node.session(inbox.peer).await, inbox) }
            .into_actor(self)
            .map(|(session, inbox), actor, _| {
                if let Some(session) = session {
                    actor.peers.insert(inbox.peer, Caller { session, tally: Tally::default() });
                    actor.serve(inbox);
                }
            })
            .wait(ctx);
    }
}

impl ServeActor {
    fn serve(&mut self, inbox: Inbox) {
        let Some(caller) = self.peers.get_mut(&inbox.peer) else { return };
        for message in inbox.messages {
            caller.handle(message, &inbox.via, self.log.as_mut());
        }
    }
}

impl Caller {
    /// One message of one caller.
    fn handle(&mut self, message: Received, via: &LinkInfo, log: Option<&mut File>) {
        match Ask::decode(&message.payload) {
            Some(Ask::Count(number)) => self.tally.arrived(number),
            Some(Ask::Echo) => {
                let Received { channel, class, payload, .. } = message;
                self.reply(Outgoing { channel, class, payload, ..Outgoing::default() });
            }
            Some(Ask::Drip(seq)) => {
                self.tally.arrived(seq);
                if let Some(log) = log {
                    let link = if via.initiator { &via.remote } else { &via.local };
                    let text = json!({ "seq": seq, "mono_ns": mono_ns(), "link": link, "link_id": via.id });
                    // A log that cannot be written shows as losses in whatever reads it.
                    let _ = writeln!(log, "{text}");
                }
            }
            Some(Ask::Report) => {
                let count = std::mem::take(&mut self.tally).count();
                let report = json!({
                    "cpu_ns": cpu_time().map(|time| time.as_nanos() as u64),
                    "resident_bytes": resident_bytes(),
                    "delivered": count.delivered,
                    "duplicated": count.duplicated,
                    "out_of_order": count.out_of_order,
                });
                let Received { channel, class, .. } = message;
                self.reply(Outgoing { channel, class, payload: answer(&report), ..Outgoing::default() });
            }
            None => tracing::warn!(bytes = message.payload.len(), "a message that is no bench's"),
        }
    }

    fn reply(&self, message: Outgoing) {
        match self.session.send(message.clone()) {
            Ok(_) => {}
            Err(SendError::Full { .. }) => {
                let session = self.session.clone();
                actix_rt::spawn(async move { session.send_wait(message).await.map(drop) });
            }
            Err(error) => tracing::warn!(%error, "an answer could not be sent"),
        }
    }
}
