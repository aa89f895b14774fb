//! What a node is willing to do for its peers now, shared by the actor that serves them and the control interface.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_messages::PeerId;
use bowline_messages::config::{NodeConfig, ReceiveConfig};
use bowline_messages::session::Inbox;
use tokio::sync::mpsc;

use super::file::ReceiveRules;
use super::forward::ForwardRules;
use crate::control::protocol::{FileEvent, FileEventKind, ReceiveLine};

/// Echo streams a peer may have open at once.
const ECHOES_MAX: usize = 16;
/// Events that wait for a slow `bowline receive` or `bowline events`; beyond that progress is not reported.
pub(crate) const EVENTS_WAITING: usize = 256;

/// What is done for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Pings are answered.
    Echo,
    /// A file is received.
    File,
    /// A connection is forwarded.
    Forward,
}

/// Shared by all parts of a node that serve peers. Usable from any thread; its lock is never held across an await.
#[derive(Debug, Default)]
pub(crate) struct ServiceState {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    forward: ForwardRules,
    /// From the configuration, when it names a folder.
    receive: Option<ReceiveRules>,
    /// What `bowline receive` falls back on.
    defaults: Option<ReceiveRules>,
    files_max: usize,
    files_per_peer: usize,
    /// Running `bowline receive` commands; the last one gets the files.
    receivers: Vec<Receiver>,
    /// Running `bowline events` commands.
    listeners: Vec<mpsc::Sender<Inbox>>,
    open: BTreeMap<(Kind, PeerId), usize>,
    transfers: u64,
}

#[derive(Debug, Clone)]
struct Receiver {
    rules: ReceiveRules,
    events: mpsc::Sender<ReceiveLine>,
}

/// The right to do one thing for a peer; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    state: Arc<ServiceState>,
    key: (Kind, PeerId),
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        if let Some(open) = inner.open.get_mut(&self.key) {
            *open -= 1;
            if *open == 0 {
                inner.open.remove(&self.key);
            }
        }
    }
}

/// Where a file goes, and who watches.
#[derive(Debug)]
pub(crate) struct Reception {
    /// The rules for it.
    pub(crate) rules: ReceiveRules,
    /// Its number.
    pub(crate) transfer: u64,
    watcher: Option<mpsc::Sender<ReceiveLine>>,
}

impl Reception {
    /// Tells whoever watches. Progress may be left out; everything else waits for room.
    pub(crate) async fn tell(&self, peer: PeerId, name: &str, kind: FileEventKind) {
        let Some(watcher) = &self.watcher else { return };
        let line = ReceiveLine::File(FileEvent { transfer: self.transfer, peer, name: name.to_owned(), kind });
        // A watcher that has gone wants to know nothing.
        let _ = watcher.send(line).await;
    }

    /// Tells how far it has come, when there is room.
    pub(crate) fn tell_progress(&self, peer: PeerId, name: &str, bytes: u64) {
        if let Some(watcher) = &self.watcher {
            let kind = FileEventKind::Progress { bytes };
            let line = ReceiveLine::File(FileEvent { transfer: self.transfer, peer, name: name.to_owned(), kind });
            let _ = watcher.try_send(line);
        }
    }
}

impl ServiceState {
    /// What the configuration allows.
    pub(crate) fn new(config: &NodeConfig) -> Arc<Self> {
        let state = Arc::new(Self::default());
        state.configure(config);
        state
    }

    /// Takes a changed configuration over. What goes on already goes on.
    pub(crate) fn configure(&self, config: &NodeConfig) {
        let receive = &config.receive;
        let rules = ReceiveRules {
            dir: receive.dir.clone().into(),
            bytes_max: receive.bytes_max,
            overwrite: receive.overwrite,
            stall: receive.stall_timeout,
        };
        let mut inner = self.lock();
        inner.forward = ForwardRules::new(&config.forward, &config.peers);
        (inner.files_max, inner.files_per_peer) = (receive.files_max, receive.files_per_peer);
        inner.receive = (!receive.dir.is_empty()).then(|| rules.clone());
        inner.defaults = Some(rules);
    }

    /// The right to do one more thing for a peer, unless it has as much of it as is allowed.
    pub(crate) fn permit(self: &Arc<Self>, kind: Kind, peer: PeerId) -> Option<Permit> {
        let mut inner = self.lock();
        let per_peer = match kind {
            Kind::Echo => ECHOES_MAX,
            Kind::File => inner.files_per_peer,
            Kind::Forward => inner.forward.connections_max,
        };
        let of_peer = inner.open.get(&(kind, peer)).copied().unwrap_or(0);
        // Files are limited over all peers, too: they share one disk.
        let all = || inner.open.iter().filter(|((open, _), _)| *open == kind).map(|(_, open)| open).sum::<usize>();
        if of_peer >= per_peer || (kind == Kind::File && all() >= inner.files_max) {
            return None;
        }
        *inner.open.entry((kind, peer)).or_default() += 1;
        Some(Permit { state: self.clone(), key: (kind, peer) })
    }

    /// The rule that lets a peer reach a port, if there is one.
    pub(crate) fn forward_rule(&self, peer: PeerId, port: u16) -> Option<bowline_messages::config::ForwardRule> {
        self.lock().forward.rule(peer, port).cloned()
    }

    /// The folder that files are received into at any time, if there is one.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.lock().receive.as_ref().map(|rules| rules.dir.clone())
    }

    /// Where a file would go now; `None` when files are not received.
    pub(crate) fn reception(&self) -> Option<Reception> {
        let mut inner = self.lock();
        inner.receivers.retain(|receiver| !receiver.events.is_closed());
        let receiver = inner.receivers.last().cloned();
        let (rules, watcher) = match receiver {
            Some(receiver) => (receiver.rules, Some(receiver.events)),
            None => (inner.receive.clone()?, None),
        };
        inner.transfers += 1;
        Some(Reception { rules, transfer: inner.transfers, watcher })
    }

    /// Receives files as a command asks, until it lets go of the events.
    pub(crate) fn receive(
        &self,
        dir: PathBuf,
        bytes_max: Option<u64>,
        overwrite: Option<bool>,
    ) -> mpsc::Receiver<ReceiveLine> {
        let (events, receiver) = mpsc::channel(EVENTS_WAITING);
        let mut inner = self.lock();
        let defaults = inner.defaults.clone();
        let rules = ReceiveRules {
            bytes_max: bytes_max.or(defaults.as_ref().map(|rules| rules.bytes_max)).unwrap_or(u64::MAX),
            overwrite: overwrite.or(defaults.as_ref().map(|rules| rules.overwrite)).unwrap_or(false),
            stall: defaults.as_ref().map_or(ReceiveConfig::default().stall_timeout, |rules| rules.stall),
            dir,
        };
        inner.receivers.push(Receiver { rules, events });
        receiver
    }

    /// Messages of peers from now on; what there is no room for is left out.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Inbox> {
        let (listener, messages) = mpsc::channel(EVENTS_WAITING);
        self.lock().listeners.push(listener);
        messages
    }

    /// Passes messages on to whoever listens.
    pub(crate) fn tell_listeners(&self, inbox: &Inbox) {
        self.lock().listeners.retain(|listener| match listener.try_send(inbox.clone()) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn permits_are_limited_and_come_back() {
        let mut config = NodeConfig::default();
        config.forward.connections_max = 1;
        config.receive.files_max = 2;
        let state = ServiceState::new(&config);
        let first = state.permit(Kind::Forward, peer(1)).unwrap();
        assert!(state.permit(Kind::Forward, peer(1)).is_none());
        let other = state.permit(Kind::Forward, peer(2)).unwrap();
        drop((first, other));
        assert!(state.permit(Kind::Forward, peer(1)).is_some());
        let files = [state.permit(Kind::File, peer(1)), state.permit(Kind::File, peer(2))];
        assert!(files.iter().all(Option::is_some));
        assert!(state.permit(Kind::File, peer(3)).is_none());
    }

    #[test]
    fn one_peer_leaves_places_for_the_files_of_others() {
        let mut config = NodeConfig::default();
        (config.receive.files_max, config.receive.files_per_peer) = (3, 2);
        let state = ServiceState::new(&config);
        let greedy = [state.permit(Kind::File, peer(1)), state.permit(Kind::File, peer(1))];
        assert!(greedy.iter().all(Option::is_some));
        assert!(state.permit(Kind::File, peer(1)).is_none(), "it has its share");
        let other = state.permit(Kind::File, peer(2)).unwrap();
        assert!(state.permit(Kind::File, peer(3)).is_none(), "all places are taken");
        drop(greedy);
        assert!(state.permit(Kind::File, peer(1)).is_some());
        drop(other);
    }

    #[test]
    fn files_go_to_the_last_command_then_to_the_configured_folder_then_nowhere() {
        let mut config = NodeConfig::default();
        let state = ServiceState::new(&config);
        assert!(state.reception().is_none());
        config.receive.dir = "/configured".into();
        state.configure(&config);
        assert_eq!(state.reception().unwrap().rules.dir, std::path::Path::new("/configured"));
        let command = state.receive("/asked".into(), Some(5), None);
        let reception = state.reception().unwrap();
        assert_eq!((reception.rules.dir.to_str(), reception.rules.bytes_max), (Some("/asked"), 5));
        drop(command);
        assert_eq!(state.reception().unwrap().rules.dir, std::path::Path::new("/configured"));
    }
}
