//! What the control interface can do with a running node. Lives on the node's thread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_actors::clock;
use bowline_actors::node::NodeError;
use bowline_actors::session::handle::SessionHandle;
use bowline_messages::config::{NodeConfig, PeerBook, TrustPolicy};
use bowline_messages::event::EventKind;
use bowline_messages::session::{Outgoing, ReceiptState, SessionStatus};
use bowline_messages::supervision::TreeNode;
use bowline_messages::wire::Refusal;
use bowline_messages::{EndpointAddress, MessageClass, PeerId, Ticket, TransportKind};
use tokio::sync::watch;

use super::protocol::{
    BroadcastAsked, BroadcastResult, Connected, NodeReport, PeerAsked, PeerReport, Reloaded, StatusReport,
};
use super::report::{SessionReport, micros};
use super::resolve::{Resolved, resolve};
use super::seeking::{Commanded, Seeking, plan, sought};
use super::visits::Visits;
use super::why::{is_refusal, only_waits};
use crate::config::{Loaded, Source};
use crate::exit::{Exit, Failure};
use crate::node::{Node, trust_lists};
use crate::services::file;
use crate::services::state::ServiceState;
use crate::telemetry::LogControl;

/// How often it is looked whether a link has come up.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a part of the node may take to answer for `status`.
const PART_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that are searched for the reason why a peer cannot be reached.
const EVENTS_SEARCHED: usize = 200;

/// A running node with everything the binary has put around it.
pub(crate) struct Running {
    /// The node.
    pub(crate) node: Node,
    /// What it does for its peers.
    pub(crate) services: Arc<ServiceState>,
    /// Where its configuration comes from.
    pub(crate) source: Source,
    /// The configuration in force.
    pub(crate) loaded: RefCell<Loaded>,
    /// The log.
    pub(crate) log: LogControl,
    /// When it started.
    pub(crate) started: Instant,
    /// Whom commands connected to.
    pub(super) commanded: RefCell<Commanded>,
    /// Files that are being sent.
    pub(super) sending: watch::Sender<usize>,
    /// Whom commands need as long as they run.
    pub(super) visits: RefCell<Visits>,
}

/// Why dials failed, in one line: for each address what it last said. `own`: what names this node over there.
fn explain(errors: impl IntoIterator<Item = (EndpointAddress, String)>, own: &str) -> Option<String> {
    let mut last: Vec<(EndpointAddress, String)> = Vec::new();
    for (address, error) in errors {
        match last.iter_mut().find(|(known, _)| *known == address) {
            Some(_) if only_waits(&error) => {}
            Some((_, known)) => *known = error,
            None => last.push((address, error)),
        }
    }
    let any = |refusal: Refusal| last.iter().any(|(_, error)| is_refusal(error, refusal.clone()));
    let advice = if any(Refusal::NotAllowed) {
        format!("; when it does not know this node yet, `bowline connect {own}` over there accepts it")
    } else if any(Refusal::CoolDown) {
        format!(
            "; a failed attempt from here has to cool down over there (limits.cool_down, 1min unless changed): try again \
             after that, or, when it does not know this node yet, `bowline connect {own}` over there at once"
        )
    } else {
        String::new()
    };
    let texts: Vec<String> = last.into_iter().map(|(address, error)| format!("{address}: {error}")).collect();
    (!texts.is_empty()).then(|| texts.join(", ") + &advice)
}

pub(super) fn gone(error: NodeError) -> Failure {
    let exit = if matches!(error, NodeError::Connect(_)) { Exit::Permission } else { Exit::NodeNotReachable };
    Failure::new(exit, error)
}

/// Whom a command means, and where that may be.
pub(super) struct Target {
    pub(super) peer: PeerId,
    addresses: Vec<EndpointAddress>,
    /// Those that the command itself gives.
    given: BTreeSet<EndpointAddress>,
}

/// A session that a command asked for.
pub(super) struct Begun {
    peer: PeerId,
    pub(super) session: SessionHandle,
    /// Whether the command or the configuration says where the peer is.
    addressed: bool,
}

/// What a user can do about an exclusion.
pub(super) fn way_back(peer: &PeerId) -> String {
    format!("`bowline trust readmit {peer}` lets it back in")
}

impl Running {
    /// A node that runs since `started`, with what the binary has put around it.
    pub(crate) fn new(
        node: Node,
        services: Arc<ServiceState>,
        source: Source,
        loaded: Loaded,
        log: LogControl,
        started: Instant,
    ) -> Self {
        Self {
            node,
            services,
            source,
            loaded: RefCell::new(loaded),
            log,
            started,
            commanded: RefCell::default(),
            sending: watch::Sender::new(0),
            visits: RefCell::default(),
        }
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> NodeConfig {
        self.loaded.borrow().config.clone()
    }

    /// What the user calls a peer.
    pub(super) fn name_of(&self, peer: &PeerId) -> Option<String> {
        let loaded = self.loaded.borrow();
        loaded.config.peers.iter().find(|(_, entry)| entry.id == *peer).map(|(name, _)| name.clone())
    }

    /// `GET /v1/node`.
    pub(crate) async fn report(&self) -> Result<NodeReport, Failure> {
        let listening = self.node.addresses().await.map_err(gone)?;
        let advertised = self.node.services().own_addresses().map(|told| told.addresses).unwrap_or_default();
        let loaded = self.loaded.borrow();
        Ok(NodeReport {
            peer: self.node.id(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: Duration::from_millis(u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX)),
            listening,
            advertised: advertised.iter().filter_map(|address| address.parse().ok()).collect(),
            config_file: loaded.file.clone(),
            state_dir: loaded.state_dir(),
        })
    }

    /// Time since the node started.
    pub(crate) fn uptime(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    /// The sessions, or the one with a peer.
    pub(crate) async fn sessions(&self, only: Option<PeerId>) -> Result<Vec<SessionReport>, Failure> {
        let sessions = self.node.sessions(only).await.map_err(gone)?;
        let report = |status: SessionStatus| {
            let (name, score) = (self.name_of(&status.peer), self.opinion(&status.peer).0);
            SessionReport::new(status, name, score)
        };
        Ok(sessions.into_iter().map(report).collect())
    }

    /// `GET /v1/status`.
    pub(crate) async fn status(&self) -> Result<StatusReport, Failure> {
        // A part that does not answer in time must not hide the others: that is when somebody looks.
        let within = |part| tokio::time::timeout(PART_TIMEOUT, part);
        let transports = self.node.responsive_transports(PART_TIMEOUT).await;
        let answered = |kind: &&TransportKind| transports.iter().any(|status| status.kind == **kind);
        let transports_silent = self.node.transport_kinds().filter(|kind| !answered(kind)).cloned().collect();
        let repairs = within(self.node.repairs()).await.ok().and_then(Result::ok).unwrap_or_default();
        let (node, sessions) = (self.report().await?, self.sessions(None).await?);
        Ok(StatusReport { node, sessions, transports, transports_silent, repairs })
    }

    /// `GET /v1/peers`: those of the peer book by name, then other sessions, then who is excluded.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerReport>, Failure> {
        let sessions = self.sessions(None).await?;
        let config = self.config();
        let report = |peer: PeerId, name: Option<String>, addresses: &[EndpointAddress]| {
            let session = sessions.iter().find(|session| session.peer == peer);
            let links = session.map_or(0, |session| session.links.iter().filter(|link| link.state.is_usable()).count());
            let mut addresses = addresses.to_vec();
            for told in session.into_iter().flat_map(|session| &session.peer_addresses) {
                if !addresses.contains(told) {
                    addresses.push(told.clone());
                }
            }
            let (score, excluded) = self.opinion(&peer);
            let session = session.is_some();
            PeerReport { peer, name, connected: links > 0, session, links, addresses, score, excluded }
        };
        let mut peers: Vec<PeerReport> =
            config.peers.iter().map(|(name, entry)| report(entry.id, Some(name.clone()), &entry.addresses)).collect();
        let strangers = sessions.iter().filter(|session| session.name.is_none());
        peers.extend(strangers.map(|session| report(session.peer, None, &[])));
        let excluded: Vec<PeerId> = self.node.services().trust.borrow().snapshot().excluded.keys().copied().collect();
        let others = excluded.into_iter().filter(|peer| peers.iter().all(|known| known.peer != *peer));
        let others: Vec<PeerReport> = others.map(|peer| report(peer, None, &[])).collect();
        peers.extend(others);
        Ok(peers)
    }

    /// Whom a text means: of the peer book, with a session, or otherwise known.
    ///
    /// # Errors
    /// [`Exit::Usage`] with what is wrong about it.
    pub(super) async fn resolve(&self, text: &str) -> Result<Resolved, Failure> {
        let sessions = self.node.sessions(None).await.map_err(gone)?;
        let known = sessions.iter().map(|session| session.peer).chain(self.remembered());
        resolve(text, &self.loaded.borrow().config.peers, known)
    }

    /// Waits until a link carries a session.
    ///
    /// # Errors
    /// [`Exit::False`] when no address of the peer is known, [`Exit::TimedOut`] with the reasons why dials failed.
    pub(super) async fn linked_at_once(&self, begun: &Begun, limit: Duration) -> Result<SessionReport, Failure> {
        let none = || Failure::new(Exit::False, format_args!("no address of {} is known", begun.peer.short()));
        let report = self.linked(begun, limit, false).await?;
        report.ok_or_else(|| none().hint("say where it is with --to URI"))
    }

    /// Whom a command means.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the peer is not known.
    pub(super) async fn target(&self, asked: &PeerAsked) -> Result<Target, Failure> {
        let Resolved { peer, mut addresses, by_ticket } = self.resolve(&asked.peer).await?;
        let mut given: BTreeSet<EndpointAddress> = asked.to.iter().cloned().collect();
        given.extend(addresses.iter().filter(|_| by_ticket).cloned());
        addresses.extend(asked.to.iter().cloned());
        Ok(Target { peer, addresses, given })
    }

    /// Names a peer and finds or makes the session with it.
    ///
    /// # Errors
    /// [`Exit::Permission`] when it is denied.
    pub(super) async fn begin(&self, Target { peer, addresses, .. }: &Target) -> Result<Begun, Failure> {
        let peer = *peer;
        let session = self.node.connect(peer, addresses.iter().cloned()).await;
        let session = session.map_err(|error| match self.opinion(&peer).1 {
            Some(_) => gone(error).hint(way_back(&peer)),
            None => gone(error),
        })?;
        Ok(Begun { peer, session, addressed: !addresses.is_empty() })
    }

    /// Waits until a link carries a session. `None`: no address of the peer is known, nor a way through others, and it has not dialled itself,
    /// `patient` as long as there was time, else at once.
    async fn linked(&self, begun: &Begun, limit: Duration, patient: bool) -> Result<Option<SessionReport>, Failure> {
        let start = clock::now();
        loop {
            let report = self.sessions(Some(begun.peer)).await?.pop();
            let unknown =
                !begun.addressed && report.as_ref().is_some_and(|r| r.links.is_empty() && r.peer_addresses.is_empty());
            // Others may know the way, where this node takes part in a network.
            let nowhere = unknown && self.routes(begun.peer).await.is_ok_and(|routes| routes.is_empty());
            let late = clock::now().saturating_duration_since(start) >= limit;
            match report {
                Some(report) if report.is_confirmed() => return Ok(Some(report)),
                _ if begun.session.is_closed() => return Err(Failure::new(Exit::False, "the session has ended")),
                _ if nowhere && (late || !patient) => return Ok(None),
                _ if late => return Err(self.unreachable(begun.peer, limit, start).await),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Why a peer could not be reached, as far as events since `since` tell.
    async fn unreachable(&self, peer: PeerId, waited: Duration, since: Instant) -> Failure {
        let since = since.saturating_duration_since(self.started).saturating_sub(Duration::from_secs(1));
        let events = self.node.recent_events(EVENTS_SEARCHED).await.unwrap_or_default();
        let errors = events.into_iter().filter(|event| event.at >= since).filter_map(|event| {
            let EventKind::DialFailed { peer: whom, address, error } = event.kind else { return None };
            (whom == peer).then_some((address, error))
        });
        let failure = Failure::new(Exit::TimedOut, format_args!("no link to {} within {waited:?}", peer.short()));
        match explain(errors, &self.own_name().await) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// What names this node elsewhere: its ticket, so that the other side can dial at once (whom it refused before it lets cool down
    /// first); its id when it listens nowhere.
    async fn own_name(&self) -> String {
        let report = self.report().await.ok();
        let addresses =
            report.map(|report| if report.advertised.is_empty() { report.listening } else { report.advertised });
        match addresses.unwrap_or_default() {
            none if none.is_empty() => self.node.id().to_string(),
            addresses => Ticket::new(self.node.id(), addresses).to_string(),
        }
    }

    /// Waits until no file is being sent.
    pub(crate) async fn files_sent(&self) {
        // The other half is this one's own field.
        let _ = self.sending.subscribe().wait_for(|sending| *sending == 0).await;
    }

    /// `POST /v1/connect`. A peer of whom no address is known is given time to dial; when it does not, it is accepted all the same, and
    /// that is all that was asked for where peers have to be named.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the peer is not known, [`Exit::False`] when no address of it is, [`Exit::Permission`] when it is denied,
    /// [`Exit::TimedOut`] with the reasons why dials failed.
    pub(crate) async fn connect(&self, asked: &PeerAsked) -> Result<Connected, Failure> {
        let start = clock::now();
        let target = self.target(asked).await?;
        // Noted before anything is waited for: a visit that ends meanwhile must not take the peer for its own.
        let before = self.commanded.borrow().get(&target.peer).cloned();
        self.commanded.borrow_mut().entry(target.peer).or_default().extend(target.given.iter().cloned());
        let begun = match self.begin(&target).await {
            Ok(begun) => begun,
            Err(failure) => {
                let mut commanded = self.commanded.borrow_mut();
                match before {
                    Some(before) => commanded.insert(target.peer, before),
                    None => commanded.remove(&target.peer),
                };
                return Err(failure);
            }
        };
        let links = if self.config().trust.policy == TrustPolicy::Open {
            self.linked_at_once(&begun, asked.timeout).await?.links
        } else {
            self.linked(&begun, asked.timeout, true).await?.map(|report| report.links).unwrap_or_default()
        };
        let usable = links.into_iter().filter(|link| link.state.is_usable());
        Ok(Connected {
            peer: target.peer,
            links: usable.map(|link| link.remote).collect(),
            took_us: micros(clock::now().saturating_duration_since(start)),
        })
    }

    /// The peer's end of the link that the next urgent message would take.
    pub(crate) async fn preferred(&self, peer: PeerId) -> Option<EndpointAddress> {
        let session = self.sessions(Some(peer)).await.ok()?.pop()?;
        session.preferred(MessageClass::Realtime).map(|link| link.remote.clone())
    }

    /// `GET /v1/tree`.
    pub(crate) async fn tree(&self) -> Result<TreeNode, Failure> {
        self.node.tree().await.map_err(gone)
    }

    /// `POST /v1/broadcast`.
    pub(crate) async fn broadcast(&self, asked: BroadcastAsked) -> Result<Vec<BroadcastResult>, Failure> {
        let sent = self.node.broadcast(Outgoing::new(asked.class, asked.text)).await.map_err(gone)?;
        let deadline = tokio::time::Instant::now() + asked.timeout;
        let mut results = Vec::new();
        for (peer, receipt) in sent {
            let error = match receipt {
                Err(error) => Some(error.to_string()),
                Ok(receipt) => match tokio::time::timeout_at(deadline, receipt.settled()).await {
                    Ok(ReceiptState::Acknowledged) => None,
                    Ok(state) => Some(format!("{state:?}").to_lowercase()),
                    Err(_) => Some(format!("not acknowledged within {:?}", asked.timeout)),
                },
            };
            results.push(BroadcastResult { peer, acknowledged: error.is_none(), error });
        }
        Ok(results)
    }

    /// Reads the configuration again and takes over what a running node can.
    ///
    /// # Errors
    /// Those of [`Source::load`]; the configuration in force stays then.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Failure> {
        let fresh = self.source.load()?;
        self.log.set(&fresh)?;
        let before = self.config();
        let needs_restart = before.sections_needing_restart(&fresh.config);
        let report = Reloaded {
            file: fresh.file.clone(),
            changed: before != fresh.config,
            needs_restart: needs_restart.iter().map(ToString::to_string).collect(),
        };
        let (allowed, denied) = trust_lists(&fresh.config);
        self.node.services().trust.borrow_mut().reconfigure(&fresh.config.trust, allowed, denied);
        self.services.configure(&fresh.config);
        self.tidy_folder();
        *self.loaded.borrow_mut() = fresh;
        self.part_with_the_unwanted(&before).await;
        self.follow_book(&before.peers).await;
        tracing::info!(changed = report.changed, needs_restart = ?report.needs_restart, "configuration read again");
        Ok(report)
    }

    /// Removes what an earlier receiver left in the folder that files go into at any time, meanwhile.
    pub(crate) fn tidy_folder(&self) {
        if let Some(dir) = self.services.folder() {
            actix_rt::spawn(file::sweep(dir));
        }
    }

    /// Ends the sessions with peers that are not accepted any more, and gives up seeking those that were in the peer book.
    async fn part_with_the_unwanted(&self, before: &NodeConfig) {
        let (_, denied) = trust_lists(&self.config());
        self.commanded.borrow_mut().retain(|peer, _| !denied.contains(peer));
        // A node that is ending has no sessions either.
        let sessions = self.node.sessions(None).await.unwrap_or_default();
        let mut known: BTreeSet<PeerId> = before.peers.values().map(|entry| entry.id).collect();
        known.extend(sessions.iter().map(|session| session.peer));
        for peer in known {
            if !self.node.services().admits(&peer) && self.node.disconnect(peer).await.unwrap_or(false) {
                tracing::info!(peer = %peer.short(), "not accepted any more: its session is ended");
            }
        }
    }

    /// Seeks the peers that the peer book says, where it says, and no others but those that commands named. `before`: the book until now.
    pub(crate) async fn follow_book(&self, before: &PeerBook) {
        let steps = plan(before, &self.config().peers, &self.commanded.borrow());
        for (peer, step) in steps {
            match step {
                Seeking::At(addresses) => self.seek(peer, addresses).await,
                Seeking::NoMore => self.leave_alone(peer).await,
            }
        }
    }

    /// Seeks a peer again that may have a session again.
    pub(super) async fn seek_again(&self, peer: PeerId) {
        let config = self.config();
        let entry = config.peers.values().find(|entry| entry.id == peer);
        let addresses = sought(entry, self.commanded.borrow().get(&peer));
        if !addresses.is_empty() {
            self.seek(peer, addresses).await;
        }
    }

    async fn seek(&self, peer: PeerId, addresses: Vec<EndpointAddress>) {
        if let Err(error) = self.node.seek(peer, addresses).await {
            tracing::warn!(peer = %peer.short(), %error, "not connecting");
        }
    }

    /// Seeks a peer no more. What goes on over a link stays until that ends; without one there is nothing to wait for.
    async fn leave_alone(&self, peer: PeerId) {
        let sessions = self.sessions(Some(peer)).await.unwrap_or_default();
        let left = if sessions.iter().any(|session| session.connected) {
            self.node.seek(peer, []).await
        } else {
            self.node.disconnect(peer).await.map(|_| ())
        };
        if let Err(error) = left {
            tracing::warn!(peer = %peer.short(), %error, "still sought");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bowline_actors::session::handshake::HandshakeError;
    use bowline_actors::transport::actor::DialError;

    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_and_a_pause_hides_no_reason() {
        let own = "me";
        let at = |address: &str, error: &str| (address.parse().unwrap(), error.to_owned());
        assert_eq!(explain([], own), None);
        let tcp = "tcp://127.0.0.1:1";
        let errors = [at(tcp, "connection refused"), at(tcp, "failed several times in a row, next attempt in 4s")];
        assert_eq!(explain(errors, own).unwrap(), "tcp://127.0.0.1:1: connection refused");
        let refused = |refusal: Refusal| {
            let error = DialError::Handshake(HandshakeError::Refused(refusal));
            (tcp.parse().unwrap(), error.to_string())
        };
        let connect = format!("bowline connect {own}");
        let stranger = explain([refused(Refusal::NotAllowed), refused(Refusal::CoolDown)], own).unwrap();
        assert!(stranger.contains(&Refusal::NotAllowed.to_string()) && stranger.contains(&connect), "{stranger}");
        assert!(!stranger.contains("cool"), "{stranger}");
        let cooling = explain([refused(Refusal::CoolDown)], own).unwrap();
        assert!(cooling.contains("limits.cool_down") && cooling.contains(&connect), "{cooling}");
        for other in [Refusal::Busy, Refusal::SourceLimit, Refusal::TooManyConnections, Refusal::ShuttingDown] {
            let told = explain([refused(other.clone())], own).unwrap();
            assert_eq!(told, format!("{tcp}: refused: {other}"), "being accepted does not help there");
        }
    }
}
