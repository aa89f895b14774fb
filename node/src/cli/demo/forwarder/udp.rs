//! Datagrams: one flow for each source, with a socket of its own towards the target.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Counters, Direction, Orders, Pace, Standing, change};

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams on the way at most in one direction of one flow; what comes on top is lost, as at any bottleneck.
const QUEUE_MAX: usize = 512;
/// Flows at once on a path; datagrams of more sources are lost.
const FLOWS_MAX: usize = 1024;
/// A flow on which nothing passed for this long is forgotten.
const IDLE: Duration = Duration::from_secs(120);

/// What a path's task needs to know.
pub(super) struct Route {
    pub(super) listen: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) counters: Arc<Counters>,
}

/// A datagram and the moment from which it may arrive.
struct Datagram {
    due: Instant,
    data: Bytes,
}

/// The near end of a flow.
struct Flow {
    queue: mpsc::Sender<Datagram>,
    task: AbortHandle,
}

pub(super) fn bind(address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(UdpSocket::from_std(socket)?))
}

/// Forwards until the path is dropped.
pub(super) async fn run(route: Route, socket: Arc<UdpSocket>) {
    let mut socket = Some(socket);
    let mut orders = route.orders.clone();
    let mut resets = orders.borrow().resets;
    let mut flows = BTreeMap::<SocketAddr, Flow>::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let now = *orders.borrow_and_update();
        if now.conditions.closed || now.resets != resets {
            resets = now.resets;
            flows.clear();
            tasks.abort_all();
        }
        if now.conditions.closed {
            // The flows hold the socket as well: it is closed once they have ended.
            while tasks.join_next().await.is_some() {}
            socket = None;
        } else if socket.is_none() {
            socket = bind(route.listen).ok();
        }
        tokio::select! {
            () = change(&mut orders) => {}
            Some(_) = tasks.join_next(), if !tasks.is_empty() => flows.retain(|_, flow| !flow.task.is_finished()),
            Ok((bytes, source)) = receive(socket.as_deref(), &mut buffer) => {
                let conditions = now.conditions;
                if conditions.silent_forth || conditions.largest_bytes.is_some_and(|largest| bytes > largest) {
                    continue;
                }
                if !flows.contains_key(&source) && flows.len() < FLOWS_MAX && let Some(socket) = &socket {
                    flows.insert(source, begin(&route, Arc::clone(socket), source, &mut tasks));
                }
                if let Some(flow) = flows.get(&source) {
                    let data = Bytes::copy_from_slice(&buffer[..bytes]);
                    let _ = flow.queue.try_send(Datagram { due: Instant::now() + conditions.latency, data });
                }
            }
        }
    }
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

fn begin(route: &Route, near: Arc<UdpSocket>, source: SocketAddr, tasks: &mut JoinSet<()>) -> Flow {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let (target, orders, counters) = (route.target, route.orders.clone(), Arc::clone(&route.counters));
    let task = tasks.spawn(async move {
        let _standing = Standing::new(&counters);
        // A flow that fails is forgotten; the next datagram begins another one.
        let _ = carry(near, source, target, waiting, orders, &counters).await;
    });
    Flow { queue, task }
}

/// One flow, until it is idle for too long.
async fn carry(
    near: Arc<UdpSocket>,
    source: SocketAddr,
    target: SocketAddr,
    forth: mpsc::Receiver<Datagram>,
    orders: watch::Receiver<Orders>,
    counters: &Counters,
) -> io::Result<()> {
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
    let far = UdpSocket::bind(any).await?;
    far.connect(target).await?;
    let (queue, back) = mpsc::channel(QUEUE_MAX);
    tokio::select! {
        () = give(&far, None, forth, Direction::Forth, orders.clone(), counters) => {}
        () = give(&near, Some(source), back, Direction::Back, orders.clone(), counters) => {}
        () = take(&far, queue, orders) => {}
    }
    Ok(())
}

/// Reads the target's answers.
async fn take(far: &UdpSocket, queue: mpsc::Sender<Datagram>, orders: watch::Receiver<Orders>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let bytes = match timeout(IDLE, far.recv(&mut buffer)).await {
            Ok(Ok(bytes)) => bytes,
            // The target's port is closed: that is said about one datagram, the next one may pass.
            Ok(Err(_)) => continue,
            Err(_) => return,
        };
        let now = orders.borrow().conditions;
        if !now.silent_back && now.largest_bytes.is_none_or(|largest| bytes <= largest) {
            let data = Bytes::copy_from_slice(&buffer[..bytes]);
            let _ = queue.try_send(Datagram { due: Instant::now() + now.latency, data });
        }
    }
}

/// Sends what is due, to `to` or to whom the socket is connected.
async fn give(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    mut queue: mpsc::Receiver<Datagram>,
    direction: Direction,
    orders: watch::Receiver<Orders>,
    counters: &Counters,
) {
    let mut pace = Pace::default();
    while let Some(Datagram { due, data }) = queue.recv().await {
        sleep_until(due).await;
        let now = orders.borrow().conditions;
        pace.pass(data.len(), now.bytes_per_second).await;
        if orders.borrow().conditions.is_silent(direction) {
            continue;
        }
        let sent = match to {
            Some(to) => socket.send_to(&data, to).await,
            None => socket.send(&data).await,
        };
        // A datagram that the system does not take is lost like any other.
        if sent.is_ok() {
            counters.passed(direction, data.len());
        }
    }
}
