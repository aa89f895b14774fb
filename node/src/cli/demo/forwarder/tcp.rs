//! Connections: accepted, connected on, and pumped both ways under the orders of their path.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Counters, Direction, Orders, Pace, Standing, change, until};

/// Read at once, in bytes, when no rate limit asks for less.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks on the way at most in one direction of one connection: what a latency keeps in the forwarder.
const CHUNKS_MAX: usize = 64;
/// Connections at once on a path; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;

/// What a path's task needs to know.
pub(super) struct Route {
    pub(super) listen: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) buffer_bytes: Option<u32>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) counters: Arc<Counters>,
}

fn socket(family: SocketAddr, buffer_bytes: Option<u32>) -> io::Result<TcpSocket> {
    let socket = if family.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket)
}

pub(super) fn listen(address: SocketAddr, buffer_bytes: Option<u32>) -> io::Result<TcpListener> {
    let socket = socket(address, buffer_bytes)?;
    // The port is opened again after it was closed, while old connections of it may still stand.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Accepts until the path is dropped.
pub(super) async fn run(route: Route, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut orders = route.orders.clone();
    let mut connections = JoinSet::new();
    loop {
        let now = *orders.borrow_and_update();
        if now.conditions.closed {
            listener = None;
        } else if listener.is_none() {
            listener = listen(route.listen, route.buffer_bytes).ok();
        }
        let silent = now.conditions.silent_forth || now.conditions.silent_back;
        let accepting = listener.as_ref().filter(|_| !silent && connections.len() < CONNECTIONS_MAX);
        tokio::select! {
            () = change(&mut orders) => {}
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(accepting) => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, route.target, route.buffer_bytes, orders.clone(), Arc::clone(&route.counters)));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection, from its first byte to its last or to a reset.
async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    buffer_bytes: Option<u32>,
    mut orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
) {
    let _standing = Standing::new(&counters);
    let begun = orders.borrow().resets;
    let connected = match socket(target, buffer_bytes) {
        Ok(socket) => socket.connect(target).await,
        Err(error) => Err(error),
    };
    let Ok(mut server) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let orderly = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let forth = pump(client_read, server_write, Direction::Forth, orders.clone(), &counters);
        let back = pump(server_read, client_write, Direction::Back, orders.clone(), &counters);
        tokio::select! {
            _ = until(&mut orders, |orders| orders.resets != begun) => false,
            ended = async { tokio::try_join!(forth, back) } => ended.is_ok(),
        }
    };
    if !orderly {
        // Closing with nothing to linger for is what sends a reset.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// A piece of the stream, and the moment from which it may arrive.
struct Chunk {
    due: Instant,
    data: Bytes,
}

async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    orders: watch::Receiver<Orders>,
    counters: &Counters,
) -> io::Result<()> {
    let (chunks, queue) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(take(from, chunks, direction, orders.clone()), give(to, queue, direction, orders, counters),)?;
    Ok(())
}

/// Reads whenever the orders allow it; ends with the stream.
async fn take(
    mut from: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    direction: Direction,
    mut orders: watch::Receiver<Orders>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let now = until(&mut orders, |orders| !orders.conditions.is_silent(direction)).await.conditions;
        // A hundredth of a second at a time: a slow path is slow evenly.
        let share =
            now.bytes_per_second.map_or(CHUNK_BYTES as u64, |rate| (rate / 100).clamp(1500, CHUNK_BYTES as u64));
        let share = usize::try_from(share).unwrap_or(CHUNK_BYTES);
        let read = tokio::select! {
            biased;
            () = change(&mut orders) => continue,
            read = from.read(&mut buffer[..share]) => read?,
        };
        if read == 0 {
            return Ok(());
        }
        let fits = |orders: &Orders| orders.conditions.largest_bytes.is_none_or(|largest| read <= largest);
        let latency = until(&mut orders, fits).await.conditions.latency;
        let chunk = Chunk { due: Instant::now() + latency, data: Bytes::copy_from_slice(&buffer[..read]) };
        if chunks.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes what was read, when it is due and the orders allow it; hands the end of the stream on.
async fn give(
    mut to: WriteHalf<'_>,
    mut queue: mpsc::Receiver<Chunk>,
    direction: Direction,
    mut orders: watch::Receiver<Orders>,
    counters: &Counters,
) -> io::Result<()> {
    let mut pace = Pace::default();
    while let Some(Chunk { due, mut data }) = queue.recv().await {
        sleep_until(due).await;
        let rate = orders.borrow().conditions.bytes_per_second;
        pace.pass(data.len(), rate).await;
        while data.has_remaining() {
            until(&mut orders, |orders| !orders.conditions.is_silent(direction)).await;
            let written = tokio::select! {
                biased;
                () = change(&mut orders) => continue,
                written = to.write(&data) => written?,
            };
            counters.passed(direction, written);
            data.advance(written);
        }
    }
    to.shutdown().await
}
