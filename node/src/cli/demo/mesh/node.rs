//! One of the eight nodes: a real process that takes part in the network and in the group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use bowline_actors::node::GroupHandle;
use bowline_actors::partition::actor::CommandError;
use bowline_actors::session::identity::Identity;
use bowline_messages::config::{LimitsConfig, NodeConfig, TrustPolicy};
use bowline_messages::event::Event;
use bowline_messages::partition::Standing;
use bowline_messages::{Incarnation, PeerId};
use tokio::task::AbortHandle;
use tokio::time::interval;

use super::detour::{Ways, registry};
use super::protocol::{Order, Outcome, Report, Status};
use super::remarks::remark;
use crate::cli::bench::measure::mono_ns;
use crate::cli::demo::process::{orders, say};
use crate::exit::{Exit, Failure};
use crate::node::Node;
use crate::notebook::{Note, Notebook, NotebookAnswer, NotebookCommand};

/// How often the node says how it is.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// Moves under way at once; beyond that none is asked for.
const UNDER_WAY_MAX: u64 = 32;
/// How long after a command that was not accepted the next attempt is made, where it has to be accepted.
const AGAIN: Duration = Duration::from_millis(200);
/// Failures in a row of one host that are borne. All nodes are one host here, and a dead one must not stand for the others.
const BREAKER_FAILURES: u32 = 1000;

/// Hears what happens in the node.
struct Listener {
    names: BTreeMap<PeerId, String>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let name = |peer: &PeerId| self.names.get(peer).cloned().unwrap_or_else(|| peer.short());
        // A parent that has gone away ends this process through its standard input.
        let _ = remark(&event.kind, name).map(|text| say(&Report::Event { text }));
    }
}

/// Runs the node until it is told to finish.
pub(super) async fn run() -> Result<Exit, Failure> {
    let outcome = perform().await;
    if let Err(failure) = &outcome {
        say(&Report::Failed { reason: failure.to_string() })?;
    }
    outcome.map(|()| Exit::Ok)
}

async fn perform() -> Result<(), Failure> {
    let mut orders = orders::<Order>();
    let Some(order) = orders.recv().await else { return Ok(()) };
    let mut desk = Desk::open(order).await?;
    let mut ticks = interval(STATUS_EVERY);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => desk.obey(order).await?,
                None => return Ok(()),
            },
            _ = ticks.tick() => say(&Report::Status(desk.status().await?))?,
        }
    }
}

/// What the node has to do with its orders and reports.
struct Desk {
    node: Node,
    group: GroupHandle,
    ways: Ways,
    under_way: Rc<Cell<u64>>,
    traffic: Option<AbortHandle>,
}

impl Desk {
    async fn open(order: Order) -> Result<Self, Failure> {
        let Order::Begin { seed, life, participants, folder, listen } = order else {
            return Err(Failure::new(Exit::GaveUp, "the first order has to say who this node is"));
        };
        let mut config = NodeConfig::default();
        config.listen.addresses.clear();
        config.limits = LimitsConfig::unlimited();
        config.transport.breaker_failures = BREAKER_FAILURES;
        config.network.enabled = true;
        config.group.participants = participants.iter().map(|(peer, _)| *peer).collect();
        let ways = Ways::default();
        let node = Node::builder()
            .identity(Arc::new(Identity::from_seed(&seed)))
            .incarnation(Incarnation(life))
            .config(config)
            .trust(TrustPolicy::Open)
            .registry(registry(&ways))
            .group(Notebook::application(), Some(folder))
            .listen(listen)
            .start()
            .await?;
        node.subscribe(Listener { names: participants.into_iter().collect() }.start().recipient());
        let group = node.group().cloned();
        let group = group.ok_or_else(|| Failure::new(Exit::GaveUp, "the node belongs to no group"))?;
        let address = node.listening().first().cloned();
        let address = address.ok_or_else(|| Failure::new(Exit::GaveUp, "the node does not listen"))?;
        say(&Report::Ready { address })?;
        Ok(Self { node, group, ways, under_way: Rc::default(), traffic: None })
    }

    async fn obey(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Begin { .. } => return Err(Failure::new(Exit::GaveUp, "this node has begun already")),
            Order::Ways { ways } => *self.ways.borrow_mut() = ways.into_iter().collect(),
            Order::Connect { peer, address } => {
                let connected = self.node.connect(peer, [address]).await;
                // The session lives on without this handle.
                connected.map(drop).map_err(|error| Failure::new(Exit::GaveUp, error))?;
            }
            Order::Fund { accounts, amount } => {
                let group = self.group.clone();
                actix_rt::spawn(async move {
                    for name in accounts {
                        let note = NotebookCommand::Set { name, note: Note::Number(amount) };
                        insist(&group, &note).await;
                    }
                    // A parent that has gone away ends this process through its standard input.
                    let _ = say(&Report::Funded);
                });
            }
            Order::Start { from, to, every_ms } => {
                let traffic = traffic(self.group.clone(), Rc::clone(&self.under_way), from, to, every_ms);
                self.traffic = Some(actix_rt::spawn(traffic).abort_handle());
            }
            // Moves under way have tasks of their own.
            Order::Stop => drop(self.traffic.take().map(|traffic| traffic.abort())),
            Order::List => {
                let group = self.group.clone();
                actix_rt::spawn(async move {
                    if let NotebookAnswer::Notes(notes) = insist(&group, &NotebookCommand::List).await {
                        let number = |(name, note)| match note {
                            Note::Number(number) => Some((name, number)),
                            Note::Text(_) => None,
                        };
                        let _ = say(&Report::Listed { numbers: notes.into_iter().filter_map(number).collect() });
                    }
                });
            }
        }
        Ok(())
    }

    async fn status(&self) -> Result<Status, Failure> {
        let gone = |error| Failure::new(Exit::GaveUp, error);
        let none = || Failure::new(Exit::GaveUp, "the node takes no part in the network");
        let network = self.node.network().ok_or_else(none)?;
        let (health, graph) = (network.health().await.map_err(gone)?, network.graph().await.map_err(gone)?);
        let group = self.group.report().await.map_err(gone)?;
        let own = graph.links.iter().filter_map(|link| match link.ends {
            [one, other] if one == graph.own => Some((other, link.healing)),
            [other, one] if one == graph.own => Some((other, link.healing)),
            _ => None,
        });
        let holds = match group.partition.standing {
            Standing::Holder { term, .. } => Some(term.0),
            Standing::Member { .. } | Standing::Paused => None,
        };
        Ok(Status {
            mono_ns: mono_ns(),
            neighbours: own.collect(),
            nodes: u32::try_from(graph.nodes.len()).unwrap_or(u32::MAX),
            parts: health.topology.components,
            critical: health.topology.bridge_nodes,
            running: group.running && group.partition.standing != Standing::Paused,
            holds,
            under_way: self.under_way.get(),
        })
    }
}

/// Moves one from an account to others, in turn, until it is stopped.
async fn traffic(group: GroupHandle, under_way: Rc<Cell<u64>>, from: String, to: Vec<String>, every_ms: u64) {
    let mut ticks = interval(Duration::from_millis(every_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for to in to.iter().cycle() {
        ticks.tick().await;
        if under_way.get() >= UNDER_WAY_MAX {
            continue;
        }
        let (group, under_way) = (group.clone(), Rc::clone(&under_way));
        let command = NotebookCommand::Move { from: from.clone(), to: to.clone(), amount: 1 };
        under_way.set(under_way.get() + 1);
        // A parent that has gone away ends this process through its standard input.
        let _ = say(&Report::Asked);
        actix_rt::spawn(async move {
            let outcome = match ask(&group, &command).await {
                Ok(NotebookAnswer::Done) => Outcome::Done,
                Ok(_) => Outcome::Denied,
                Err(CommandError::Unknown) => Outcome::Unknown,
                Err(_) => Outcome::Refused,
            };
            under_way.set(under_way.get() - 1);
            let _ = say(&Report::Moved { mono_ns: mono_ns(), outcome });
        });
    }
}

async fn ask(group: &GroupHandle, command: &NotebookCommand) -> Result<NotebookAnswer, CommandError> {
    let encoded = serde_json::to_vec(command).unwrap_or_default();
    let answer = group.submit(encoded.into()).await?;
    // What cannot be read was no answer.
    Ok(serde_json::from_slice(&answer).unwrap_or_else(|error| NotebookAnswer::Refused(error.to_string())))
}

/// Asks until there is an answer. Only for what may be done twice.
async fn insist(group: &GroupHandle, command: &NotebookCommand) -> NotebookAnswer {
    loop {
        match ask(group, command).await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
