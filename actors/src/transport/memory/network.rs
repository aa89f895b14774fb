//! The simulated network: hosts, listeners, paths and the links on them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use bowline_messages::{EndpointAddress, TransportKind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::time::Instant;

use super::link::{Connection, MemoryIncoming};
use super::path::{Change, Cut, Path, PathSettings, Written};
use super::pipe::Pace;

/// The first port that is given out for port 0.
const EPHEMERAL_PORT: u16 = 49152;
/// A chunk that is lost this often in a row arrives all the same.
const LOST_IN_A_ROW_MAX: u32 = 6;

/// A network inside this process, for message scripts, simulation and embedders' tests. A clone is the same network.
///
/// It lives on tokio's clock: with the clock paused and everything on one thread, the same seed and the same calls give the same
/// run. (It is not bound to that thread only because links travel in messages.)
#[derive(Clone)]
pub struct MemoryNetwork {
    inner: Arc<Mutex<Inner>>,
}

/// Locks what no code can leave half done: nothing in here panics between two steps that belong together.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inner {
    random: ChaCha12Rng,
    defaults: BTreeMap<TransportKind, PathSettings>,
    /// Where in `states` that of a path is.
    paths: BTreeMap<Path, usize>,
    states: Vec<PathState>,
    listeners: BTreeMap<ListenerKey, Backlog>,
    /// The two paths of each link, and the link.
    connections: BTreeMap<u64, (Path, Path, Weak<Mutex<Connection>>)>,
    next_connection: u64,
    next_port: u16,
}

/// One direction between two hosts.
struct PathState {
    settings: PathSettings,
    cut_since: Option<Instant>,
    /// When the last byte that was written leaves.
    busy_until: Option<Instant>,
    watched: Option<(usize, Written)>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListenerKey {
    pub(super) kind: TransportKind,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl ListenerKey {
    pub(super) fn of(address: &EndpointAddress) -> Self {
        Self { kind: address.kind().clone(), host: address.host().into(), port: address.port() }
    }
}

/// Connections that wait to be accepted.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) waiting: VecDeque<MemoryIncoming>,
    pub(super) acceptor: Option<Waker>,
}

impl MemoryNetwork {
    /// An empty network in which every path is perfect until told otherwise. `seed` decides all jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                random: ChaCha12Rng::seed_from_u64(seed),
                defaults: BTreeMap::new(),
                paths: BTreeMap::new(),
                states: Vec::new(),
                listeners: BTreeMap::new(),
                connections: BTreeMap::new(),
                next_connection: 0,
                next_port: EPHEMERAL_PORT,
            })),
        }
    }

    /// Sets what paths of a kind are like that nothing else was said of. Paths that were used or set before keep what they
    /// have.
    pub fn set_default(&self, kind: &TransportKind, settings: PathSettings) {
        lock(&self.inner).defaults.insert(kind.clone(), settings);
    }

    /// What a path is like now.
    pub fn settings(&self, path: &Path) -> PathSettings {
        lock(&self.inner).path(path).settings.clone()
    }

    /// Changes one path now.
    pub fn apply(&self, path: &Path, change: Change) {
        let now = Instant::now();
        // Links look at the network while they are locked, so the network is let go before they are.
        let mut inner = lock(&self.inner);
        let connections = inner.connections_on(path);
        if change == Change::Reset {
            drop(inner);
            return connections.iter().for_each(|connection| lock(connection).reset(now));
        }
        let state = inner.path(path);
        let (before, rate) = (state.settings.cut, state.settings.bandwidth);
        change_settings(&mut state.settings, change);
        let (after, delay) = (state.settings.cut, state.settings.delay());
        // What has yet to leave does so at the rate that the path has now.
        let waits = state.busy_until.is_some_and(|busy| busy > now);
        let pace = rate
            .filter(|_| waits && rate != state.settings.bandwidth)
            .map(|rate| Pace::new(now, rate, state.settings.bandwidth));
        if let Some(pace) = pace {
            state.busy_until = state.busy_until.map(|busy| pace.of(busy));
        }
        if before != after {
            state.cut_since = after.map(|_| now);
        }
        drop(inner);
        if before == after && pace.is_none() {
            return;
        }
        for connection in connections {
            let mut connection = lock(&connection);
            let Some(pipe) = connection.pipe_on(path) else { continue };
            if let Some(pace) = pace {
                pipe.repace(pace);
            }
            match after {
                _ if before == after => {}
                Some(cut) => pipe.cut(now, cut),
                None => pipe.heal(now, delay),
            }
        }
    }

    /// Changes a path and the one in the other direction.
    pub fn apply_both(&self, path: &Path, change: Change) {
        self.apply(path, change.clone());
        self.apply(&path.reversed(), change);
    }

    /// Changes a path after some time. Has to be called inside an actix or tokio local runtime.
    pub fn schedule(&self, after: Duration, path: Path, change: Change) {
        let network = self.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(after).await;
            network.apply(&path, change);
        });
    }

    /// Forgets what was written to a path and begins to count. Chunks below so many bytes count as small.
    pub fn watch(&self, path: &Path, small_below: usize) {
        lock(&self.inner).path(path).watched = Some((small_below, Written::default()));
    }

    /// What was written to a path since it is watched; nothing when it is not.
    pub fn written(&self, path: &Path) -> Written {
        lock(&self.inner).path(path).watched.map(|(_, written)| written).unwrap_or_default()
    }

    /// Whether a link stands on a path on which nothing arrives any more, because something vanished and the path was healed since.
    pub fn is_broken(&self, path: &Path) -> bool {
        let connections = lock(&self.inner).connections_on(path);
        connections.iter().any(|connection| lock(connection).pipe_on(path).is_some_and(|pipe| pipe.is_broken()))
    }

    /// How long a byte that is written now waits until it leaves.
    pub fn queue_delay(&self, path: &Path) -> Duration {
        let busy = lock(&self.inner).path(path).busy_until;
        busy.map_or(Duration::ZERO, |busy| busy.saturating_duration_since(Instant::now()))
    }

    /// Links that exist, each counted once.
    pub fn links(&self) -> usize {
        let inner = lock(&self.inner);
        inner.connections.values().filter(|(_, _, connection)| connection.strong_count() > 0).count()
    }

    pub(super) fn bind(&self, address: &EndpointAddress) -> Result<ListenerKey, std::io::Error> {
        let mut inner = lock(&self.inner);
        let mut key = ListenerKey::of(address);
        if key.port == Some(0) {
            key.port = Some(inner.free_port(&key));
        }
        if inner.listeners.contains_key(&key) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        inner.listeners.insert(key.clone(), Backlog::default());
        Ok(key)
    }

    pub(super) fn unbind(&self, key: &ListenerKey) {
        // Taken out first: dropping what waits in it ends links, and those look at the network again.
        let backlog = lock(&self.inner).listeners.remove(key);
        drop(backlog);
    }

    /// Works on the connections that wait at a listener; `None` when there is no such listener.
    pub(super) fn with_backlog<T>(&self, key: &ListenerKey, work: impl FnOnce(&mut Backlog) -> T) -> Option<T> {
        lock(&self.inner).listeners.get_mut(key).map(work)
    }

    pub(super) fn register(&self, path: &Path, connection: &Arc<Mutex<Connection>>) {
        let mut inner = lock(&self.inner);
        inner.next_connection += 1;
        let id = inner.next_connection;
        inner.connections.retain(|_, (_, _, connection)| connection.strong_count() > 0);
        inner.connections.insert(id, (path.clone(), path.reversed(), Arc::downgrade(connection)));
    }

    /// Settings of a path, and since when it is cut.
    pub(super) fn look_at(&self, path: &Path) -> (PathSettings, Option<(Instant, Cut)>) {
        let mut inner = lock(&self.inner);
        let state = inner.path(path);
        let cut = state.cut_since.zip(state.settings.cut);
        (state.settings.clone(), cut)
    }

    /// Lets as many bytes take their turn on a path as `room` says there is for, going by what the path is like: when they have left, and how
    /// long they travel then. `Err`: what `room` says when there is none.
    pub(super) fn send<E>(
        &self,
        path: &Path,
        now: Instant,
        room: impl FnOnce(&PathSettings) -> Result<usize, E>,
    ) -> Result<(usize, Instant, Duration), E> {
        let mut inner = lock(&self.inner);
        let state = inner.path(path);
        let bytes = room(&state.settings)?;
        let occupied = state.settings.occupied_by(bytes);
        let departs = state.busy_until.map_or(now, |busy| busy.max(now)) + occupied;
        state.busy_until = (departs > now).then_some(departs);
        if let Some((small_below, written)) = &mut state.watched {
            let small = bytes < *small_below;
            written.bytes += bytes as u64;
            written.small_bytes += if small { bytes as u64 } else { 0 };
            written.first = written.first.or(Some(now));
            written.first_large = written.first_large.or((!small).then_some(now));
        }
        let (delay, jitter) = (state.settings.delay(), state.settings.jitter);
        let PathSettings { loss_ppm, resend_delay, resend_factor, .. } = state.settings;
        let travels = delay + inner.jitter(jitter) + inner.resent(loss_ppm, resend_delay, resend_factor);
        Ok((bytes, departs, travels))
    }
}

impl Inner {
    fn path(&mut self, path: &Path) -> &mut PathState {
        let place = self.paths.get(path).copied().unwrap_or_else(|| {
            let settings = self.defaults.get(&path.kind).cloned().unwrap_or_default();
            let cut_since = settings.cut.map(|_| Instant::now());
            self.states.push(PathState { settings, cut_since, busy_until: None, watched: None });
            self.paths.insert(path.clone(), self.states.len() - 1);
            self.states.len() - 1
        });
        &mut self.states[place]
    }

    fn connections_on(&self, path: &Path) -> Vec<Arc<Mutex<Connection>>> {
        let on_path = self.connections.values().filter(|(one, other, _)| one == path || other == path);
        on_path.filter_map(|(_, _, connection)| connection.upgrade()).collect()
    }

    fn jitter(&mut self, at_most: Duration) -> Duration {
        let nanos = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(self.random.random_range(0..=nanos)) }
    }

    /// How much later a chunk arrives because it was lost.
    fn resent(&mut self, loss_ppm: u32, mut resend_delay: Duration, factor: u32) -> Duration {
        if loss_ppm == 0 {
            return Duration::ZERO;
        }
        let mut later = Duration::ZERO;
        for _ in 0..LOST_IN_A_ROW_MAX {
            if self.random.random_range(0..1_000_000) >= loss_ppm {
                break;
            }
            later = later.saturating_add(resend_delay);
            resend_delay = resend_delay.saturating_mul(factor);
        }
        later
    }

    fn free_port(&mut self, wanted: &ListenerKey) -> u16 {
        let mut key = wanted.clone();
        loop {
            let port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(EPHEMERAL_PORT);
            key.port = Some(port);
            if !self.listeners.contains_key(&key) {
                return port;
            }
        }
    }
}

fn change_settings(settings: &mut PathSettings, change: Change) {
    match change {
        Change::Shape(shape) => *settings = shape,
        Change::Latency(latency) => settings.latency = latency,
        Change::Jitter(jitter) => settings.jitter = jitter,
        Change::ExtraDelay(delay) => settings.extra_delay = delay,
        Change::Bandwidth(bandwidth) => settings.bandwidth = bandwidth,
        Change::Cut(cut) => settings.cut = Some(cut),
        Change::Heal => settings.cut = None,
        Change::DropLargerThan(bytes) => settings.drop_larger_than = bytes,
        Change::RefuseDials(refuse) => settings.refuse_dials = refuse,
        Change::Reset => {}
    }
}
