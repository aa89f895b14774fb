//! Which messages a script can send to which actors: plain data, found by name, built through serde.

use std::rc::Rc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use bowline_messages::TransportKind;
use bowline_messages::link::{Arrived, CloseLink, LinkCountersQuery, LinkDown, Transmit};
use bowline_messages::session::Inbox;
use bowline_messages::supervision::{
    CountChildren, DeleteChild, Down, Kill, RestartChild, Shutdown, SupervisionEvent, TerminateChild, Tree,
    WhichChildren,
};
use bowline_messages::transport::{Listen, ListenAddresses, TransportStatusQuery, Unlisten};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::node::{
    Advertise, ConnectPeer, DisconnectPeer, DrainSessions, EndSession, FindSessionActor, PeersQuery, RecentEvents,
    Record,
};
use crate::session::actor::{AddAddresses, CloseSession, FindLinkActor, InterfaceState, OwnAddresses, StatusQuery};
use crate::testing::sim::{Simulation, split_role};

/// A message on its way: what to do to send it, and to whom and as what its answer is written to the log.
struct Post<'a> {
    simulation: &'a Simulation,
    from: &'a str,
    to: &'a str,
    name: &'a str,
    content: Value,
}

impl Post<'_> {
    /// Sends the message and writes its answer to the log when it comes.
    fn send<A, M>(self, address: &Addr<A>) -> Result<(), String>
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + DeserializeOwned + Send + 'static,
        M::Result: Serialize + Send,
    {
        self.send_as(address, |answer: M::Result| serde_json::to_value(answer).unwrap_or(Value::Null))
    }

    /// The same for an answer that is no plain data.
    fn send_as<A, M>(self, address: &Addr<A>, shown: impl Fn(M::Result) -> Value + 'static) -> Result<(), String>
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + DeserializeOwned + Send + 'static,
        M::Result: Send,
    {
        let message: M = serde_json::from_value(self.content).map_err(|error| format!("{}: {error}", self.name))?;
        let request = address.send(message);
        let (simulation, from, to) = (self.simulation.clone(), self.from.to_owned(), self.to.to_owned());
        let name = format!("{}Answer", self.name);
        actix_rt::spawn(async move {
            match request.await {
                Ok(answer) => {
                    let answer = shown(answer);
                    if !answer.is_null() {
                        simulation.note(&to, &from, &name, &answer);
                    }
                }
                Err(error) => simulation.note(&to, &from, "MessageLost", &json!({ "error": error.to_string() })),
            }
        });
        Ok(())
    }
}

macro_rules! catalogue {
    ($($role:ident: $($name:ident)+ $(; $special:ident)*,)+) => {
        /// The roles of actors and the messages that a script can send to each.
        pub fn names() -> Vec<(&'static str, Vec<&'static str>)> {
            vec![$((stringify!($role), vec![$(stringify!($name),)+ $(stringify!($special),)*]),)+]
        }

        $(
            fn $role<A>(post: Post<'_>, address: &Addr<A>) -> Result<(), String>
            where
                A: Actor $(+ Handler<$name>)+,
                A::Context: $(ToEnvelope<A, $name> +)+,
            {
                match post.name {
                    $(stringify!($name) => post.send::<A, $name>(address),)+
                    other => {
                        let known = [$(stringify!($name),)+ $(stringify!($special),)*].join(" ");
                        Err(format!("a {} takes no `{other}`; it takes: {known}", stringify!($role)))
                    }
                }
            }
        )+
    };
}

catalogue! {
    session: Arrived LinkDown Down AddAddresses InterfaceState CloseSession StatusQuery; Outgoing; Stream; OwnAddresses,
    link: Transmit CloseLink LinkCountersQuery,
    peers: DisconnectPeer EndSession PeersQuery InterfaceState DrainSessions Down; ConnectPeer; Advertise,
    transport: Listen Unlisten ListenAddresses TransportStatusQuery,
    supervisor: WhichChildren CountChildren Tree Kill TerminateChild RestartChild DeleteChild Shutdown,
    journal: Record RecentEvents SupervisionEvent,
    app: Inbox,
}

/// Sends a message to an actor, `NODE.ROLE` or `NODE.ROLE(ARGUMENT)`; its answer, if any, goes to the log as `NAMEAnswer`.
///
/// # Errors
/// In words.
pub(super) async fn send(
    simulation: &Simulation,
    from: &str,
    to: &str,
    name: &str,
    content: Value,
) -> Result<(), String> {
    let (node, role) = to.split_once('.').ok_or_else(|| format!("`{to}` is no actor: expected NODE.ROLE"))?;
    let (kind, argument) = split_role(role);
    let handle = simulation.handle(node).map_err(|error| error.to_string())?;
    let gone = |what: &str| format!("`{node}` has no {what}");
    let post = Post { simulation, from, to, name, content };
    match kind {
        "peers" if name == "ConnectPeer" => post.send_as::<_, ConnectPeer>(handle.peers(), |answer| match answer {
            Ok(session) => json!({ "peer": session.peer() }),
            Err(error) => json!({ "error": error.to_string() }),
        }),
        "peers" if name == "Advertise" => {
            let addresses = signed(&handle, &post.content)?;
            handle.peers().do_send(Advertise(addresses));
            Ok(())
        }
        "peers" => peers(post, handle.peers()),
        "journal" => journal(post, handle.journal()),
        "supervisor" => supervisor(post, handle.root().address()),
        "transport" => {
            let wanted = TransportKind::new(argument.unwrap_or("tcp"));
            transport(post, handle.transport(&wanted).ok_or_else(|| gone("such transport"))?)
        }
        "group" if name == "Submit" => {
            let group = handle.group().ok_or_else(|| gone("group"))?.clone();
            submit(post, group)
        }
        "group" => Err("a group takes no such message; it takes: Submit".to_owned()),
        "app" => {
            let address = simulation.app(node).map_err(|error| error.to_string())?;
            app(post, &address.ok_or_else(|| gone("application"))?)
        }
        "session" | "link" => {
            let peer = if kind == "session" { argument } else { None };
            let address = session_actor(simulation, node, peer).await?;
            if kind == "session" && name == "OwnAddresses" {
                address.do_send(OwnAddresses(signed(&handle, &post.content)?));
                return Ok(());
            }
            if kind == "session" {
                return session(post, &address);
            }
            let status = address.send(StatusQuery).await.map_err(|error| error.to_string())?;
            let wanted = |at: &&bowline_messages::session::LinkStatus| {
                argument.is_none_or(|argument| at.info.transport.as_str() == argument)
            };
            let id = status.links.iter().find(wanted).ok_or_else(|| gone("such link"))?.info.id;
            let found = address.send(FindLinkActor(id)).await.map_err(|error| error.to_string())?;
            link(post, &found.ok_or_else(|| gone("such link"))?)
        }
        other => Err(format!("there is no role `{other}`")),
    }
}

/// `Submit text="bet 5"`; the answer comes when the group has carried it out, or does not.
fn submit(post: Post<'_>, group: crate::node::GroupHandle) -> Result<(), String> {
    let text = post.content.get("text").and_then(Value::as_str).ok_or("expected text=\"…\"")?.to_owned();
    let (simulation, from, to) = (post.simulation.clone(), post.from.to_owned(), post.to.to_owned());
    actix_rt::spawn(async move {
        let answer = match group.submit(text.into()).await {
            Ok(answer) => json!({ "answer": String::from_utf8_lossy(&answer) }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        simulation.note(&to, &from, "SubmitAnswer", &answer);
    });
    Ok(())
}

async fn session_actor(
    simulation: &Simulation,
    node: &str,
    peer: Option<&str>,
) -> Result<Addr<crate::session::actor::SessionActor>, String> {
    let text = |error: crate::testing::sim::SimulationError| error.to_string();
    let handle = simulation.handle(node).map_err(text)?;
    let peer = match peer {
        Some(peer) => simulation.peer_id(peer).map_err(text)?,
        None => {
            let sessions = handle.sessions(None).await.map_err(|error| error.to_string())?;
            sessions.first().ok_or_else(|| format!("`{node}` has no session"))?.peer
        }
    };
    let found = handle.peers().send(FindSessionActor(peer)).await.map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("`{node}` has no such session"))
}

/// `{"version": 9, "addresses": ["tcp://a"]}`, signed by the node.
fn signed(
    handle: &crate::node::NodeHandle,
    content: &Value,
) -> Result<bowline_messages::wire::SignedAddresses, String> {
    let version = content.get("version").and_then(Value::as_u64).ok_or("expected version=NUMBER")?;
    let addresses = content.get("addresses").and_then(Value::as_array).ok_or("expected addresses=[\"…\"]")?;
    let addresses: Vec<String> = addresses.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Rc::clone(handle.services()).identity.sign_addresses(version, addresses))
}
