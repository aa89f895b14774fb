//! A forwarder between real sockets that can be told, at any moment, to behave like a bad network.
//!
//! A [`Path`] listens on one address and carries what arrives to another, over TCP or UDP, under [`Conditions`] that may change
//! while traffic is on it. It goes *really* silent: nothing is read and nothing is written, the sockets stay open and no end is
//! told anything, which is what a cable does that was cut behind the next switch. Used by the demonstration, the benches and
//! the tests on real sockets.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What the traffic of a path consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// One of the two ways along a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that dialled to the target.
    Forth,
    /// From the target to the side that dialled.
    Back,
}

/// How a path behaves. The default is a good network: everything passes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Nothing passes from the dialling side to the target, silently. New connections are not accepted either.
    pub silent_forth: bool,
    /// Nothing passes from the target to the dialling side, silently. New connections are not accepted either.
    pub silent_back: bool,
    /// Bytes a second that pass each way, at least 1.
    pub bytes_per_second: Option<u64>,
    /// How much later everything arrives, each way.
    pub latency: Duration,
    /// What is larger than this many bytes does not pass. A datagram is lost; on a connection everything behind it waits as well,
    /// as it does behind a segment that is too large for the route.
    pub largest_bytes: Option<usize>,
    /// The listening socket is closed: new connections are refused, those that stand live on. Datagrams have no connections:
    /// there everything ends.
    pub closed: bool,
}

impl Conditions {
    /// A silent black hole both ways.
    #[must_use]
    pub fn black_hole() -> Self {
        Self { silent_forth: true, silent_back: true, ..Self::default() }
    }

    fn is_silent(&self, direction: Direction) -> bool {
        match direction {
            Direction::Forth => self.silent_forth,
            Direction::Back => self.silent_back,
        }
    }
}

/// What a path has to obey at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    conditions: Conditions,
    /// Grows with each reset; connections begun under a smaller number end.
    resets: u64,
}

/// What has passed along a path.
#[derive(Debug, Default)]
struct Counters {
    forth: AtomicU64,
    back: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    fn passed(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Forth => &self.forth,
            Direction::Back => &self.back,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// An open path; dropping it closes its listener and resets what runs over it.
#[derive(Debug)]
pub struct Path {
    listen: SocketAddr,
    orders: watch::Sender<Orders>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Path {
    /// Opens a path from a free port of the loopback to `target`, in the runtime that this is called in.
    ///
    /// `buffer_bytes` bounds the socket buffers of connections, for paths that are to be slow: else the kernel keeps megabytes
    /// on the way.
    ///
    /// # Errors
    /// The operating system gives no socket.
    pub fn open(kind: PathKind, target: SocketAddr, buffer_bytes: Option<u32>) -> io::Result<Self> {
        let any: SocketAddr =
            if target.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { ([0, 0, 0, 0, 0, 0, 0, 1], 0).into() };
        Self::open_at(kind, any, target, buffer_bytes)
    }

    /// The same, listening at a given address.
    ///
    /// # Errors
    /// The operating system does not give this address.
    pub fn open_at(
        kind: PathKind,
        listen: SocketAddr,
        target: SocketAddr,
        buffer_bytes: Option<u32>,
    ) -> io::Result<Self> {
        let (orders, obeyed) = watch::channel(Orders::default());
        let counters = Arc::<Counters>::default();
        let (listen, task) = match kind {
            PathKind::Tcp => {
                let listener = tcp::listen(listen, buffer_bytes)?;
                let listen = listener.local_addr()?;
                let route =
                    tcp::Route { listen, target, buffer_bytes, orders: obeyed, counters: Arc::clone(&counters) };
                (listen, tokio::spawn(tcp::run(route, listener)))
            }
            PathKind::Udp => {
                let socket = udp::bind(listen)?;
                let listen = socket.local_addr()?;
                let route = udp::Route { listen, target, orders: obeyed, counters: Arc::clone(&counters) };
                (listen, tokio::spawn(udp::run(route, socket)))
            }
        };
        Ok(Self { listen, orders, counters, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// How it behaves now.
    pub fn conditions(&self) -> Conditions {
        self.orders.borrow().conditions
    }

    /// Changes how it behaves, from this moment on, for what runs over it and for what will.
    pub fn set(&self, conditions: Conditions) {
        self.orders.send_modify(|orders| orders.conditions = conditions);
    }

    /// Ends every connection with a reset at both ends. Datagrams have none: there the flows are forgotten and the next datagram
    /// leaves from another port, as behind an address translator that was restarted.
    pub fn reset(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }

    /// Bytes that have passed in one direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Forth => self.counters.forth.load(Ordering::Relaxed),
            Direction::Back => self.counters.back.load(Ordering::Relaxed),
        }
    }

    /// Connections or flows that stand now.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts a connection for as long as it is held.
struct Standing(Arc<Counters>);

impl Standing {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until the orders satisfy a condition; for ever when the path is gone, because then its task is about to end as well.
async fn until(orders: &mut watch::Receiver<Orders>, condition: impl FnMut(&Orders) -> bool) -> Orders {
    let found = orders.wait_for(condition).await.map(|found| *found);
    match found {
        Ok(found) => found,
        Err(_) => std::future::pending().await,
    }
}

/// Waits until the orders change; for ever when the path is gone.
async fn change(orders: &mut watch::Receiver<Orders>) {
    if orders.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How much of the time since the last bytes counts as the timer's lateness.
const LATE_MAX: Duration = Duration::from_millis(5);

/// Spreads bytes over time: each takes its share of a second before the next may pass.
#[derive(Debug, Default)]
struct Pace {
    free_at: Option<Instant>,
}

impl Pace {
    /// Waits until `bytes` have passed a bottleneck of this rate.
    async fn pass(&mut self, bytes: usize, bytes_per_second: Option<u64>) {
        let Some(rate) = bytes_per_second else { return };
        let now = Instant::now();
        // Timers fire up to a millisecond late; without making that up a fast path would carry half of its rate.
        let made_up = now.checked_sub(LATE_MAX).unwrap_or(now);
        let begins = self.free_at.map_or(now, |free_at| free_at.max(made_up));
        let ends = begins + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.free_at = Some(ends);
        sleep_until(ends).await;
    }
}

#[cfg(test)]
mod tests;
