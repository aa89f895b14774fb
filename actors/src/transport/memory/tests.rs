#![allow(clippy::unwrap_used)]
use std::future::poll_fn;
use std::time::Duration;

use bowline_messages::{PeerId, TransportKind};
use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::transport::LaneBuffers;

const MS: Duration = Duration::from_millis(1);

type Ends = (Box<dyn Link>, Box<dyn Link>);

fn kind() -> TransportKind {
    TransportKind::new("sim-tcp")
}

fn there() -> Path {
    Path::new("a", "b", &kind())
}

fn options() -> DialOptions {
    DialOptions { expect: PeerId::from_bytes([0; 32]), binding: Binding::Any, timeout: Duration::from_secs(30) }
}

#[tokio::test(start_paused = true)]
async fn bytes_take_latency_and_their_share_of_the_bandwidth() {
    let network = MemoryNetwork::new(1);
    network.apply(&there(), Change::Latency(40 * MS));
    network.apply(&there(), Change::Bandwidth(Some(125_000)));
    let (mut a, mut b) = connect(&network, 1).await;
    let start = Instant::now();
    write(&mut a, 0, &[7; 12_500]).await;
    assert_eq!(read(&mut b, 12_500).await, vec![7; 12_500]);
    assert_eq!(start.elapsed(), 140 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_at_the_bandwidth_that_there_is_then() {
    for (then, takes) in [(Some(125_000), 1_090), (Some(500), 19_000), (None, 1_000)] {
        let network = MemoryNetwork::new(1);
        network.apply(&there(), Change::Bandwidth(Some(1_000)));
        let (mut a, mut b) = connect(&network, 1).await;
        let start = Instant::now();
        // Ten seconds' worth; after one of them nine are left.
        write(&mut a, 0, &[7; 10_000]).await;
        let change = async {
            tokio::time::sleep(1_000 * MS).await;
            network.apply(&there(), Change::Bandwidth(then));
        };
        let (received, ()) = tokio::join!(read(&mut b, 10_000), change);
        assert_eq!(received, vec![7; 10_000]);
        let took = start.elapsed().as_millis();
        assert!(took.abs_diff(takes) <= 20, "{then:?}: {took} ms");
        assert!(network.queue_delay(&there()).is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_keeps_the_order_and_the_seed_decides_it() {
    let mut runs = Vec::new();
    for seed in [3, 3, 4] {
        let network = MemoryNetwork::new(seed);
        network.apply(&there(), Change::Jitter(30 * MS));
        let (mut a, mut b) = connect(&network, 1).await;
        let start = Instant::now();
        let mut times = Vec::new();
        for n in 0..20_u8 {
            write(&mut a, 0, &[n]).await;
        }
        let mut buffers = LaneBuffers::default();
        while buffers.len() < 20 {
            poll_fn(|cx| b.poll_read(cx, &mut buffers)).await.unwrap();
            times.push((start.elapsed(), buffers.len()));
        }
        assert_eq!(&buffers.lane(0)[..], (0..20).collect::<Vec<u8>>());
        runs.push(times);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[1], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_arrives_later_in_its_turn() {
    for (factor, latest) in [(1, 6), (2, 63)] {
        let network = MemoryNetwork::new(1);
        let settings = PathSettings { resend_delay: 10 * MS, resend_factor: factor, ..PathSettings::default() };
        let (mut a, mut b) = connect(&network, 1).await;
        network.apply(&there(), Change::Shape(PathSettings { loss_ppm: 1_000_000, ..settings.clone() }));
        let start = Instant::now();
        write(&mut a, 0, b"lost").await;
        network.apply(&there(), Change::Shape(settings));
        write(&mut a, 0, b"behind").await;
        assert_eq!(read(&mut b, 10).await, b"lostbehind");
        assert_eq!(start.elapsed(), latest * 10 * MS, "six times in a row at most");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_a_watched_path_is_counted_from_then_on() {
    let network = MemoryNetwork::new(1);
    let (mut a, _b) = connect(&network, 1).await;
    write(&mut a, 0, &[1; 50]).await;
    assert_eq!(network.written(&there()), Written::default());
    network.watch(&there(), 100);
    tokio::time::sleep(MS).await;
    let first = Instant::now();
    write(&mut a, 0, &[1; 99]).await;
    tokio::time::sleep(MS).await;
    write(&mut a, 0, &[1; 100]).await;
    let written = network.written(&there());
    assert_eq!((written.bytes, written.small_bytes), (199, 99));
    assert_eq!((written.first, written.first_large), (Some(first), Some(first + MS)));
    assert_eq!(network.written(&there().reversed()), Written::default());
}

#[tokio::test(start_paused = true)]
async fn a_cut_one_way_keeps_bytes_back_in_that_direction_until_it_is_healed() {
    let network = MemoryNetwork::new(1);
    network.apply_both(&there(), Change::Latency(10 * MS));
    let (mut a, mut b) = connect(&network, 1).await;
    write(&mut a, 0, b"before").await;
    tokio::time::sleep(10 * MS).await;
    network.apply(&there(), Change::Cut(Cut::Hold));
    write(&mut a, 0, b"behind").await;
    write(&mut b, 0, b"still works").await;
    assert_eq!(read(&mut a, 11).await, b"still works");
    assert_eq!(read(&mut b, 6).await, b"before", "what had arrived before the cut is there");
    assert!(stays_silent(&mut b, Duration::from_secs(3600)).await);
    network.apply(&there(), Change::Heal);
    let healed = Instant::now();
    assert_eq!(read(&mut b, 6).await, b"behind");
    assert_eq!(healed.elapsed(), 10 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_vanished_never_comes_back_but_new_links_work() {
    let network = MemoryNetwork::new(1);
    let (mut a, mut b) = connect(&network, 1).await;
    network.apply_both(&there(), Change::Cut(Cut::Vanish));
    tokio::time::sleep(MS).await;
    write(&mut a, 0, b"lost").await;
    network.apply_both(&there(), Change::Heal);
    write(&mut a, 0, b"behind the gap").await;
    assert!(stays_silent(&mut b, Duration::from_secs(3600)).await);
    let (mut c, mut d) = connect(&network, 1).await;
    write(&mut c, 0, b"new").await;
    assert_eq!(read(&mut d, 3).await, b"new");
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_when_nobody_reads_and_when_the_path_is_full() {
    let network = MemoryNetwork::new(1);
    let settings = PathSettings { window_bytes: 1000, ..PathSettings::default() };
    network.apply(&there(), Change::Shape(settings));
    let (mut a, mut b) = connect(&network, 1).await;
    let mut data = Bytes::from(vec![1; 1500]);
    assert!(poll_once(|cx| a.poll_write(cx, 0, &mut data)).await.is_ready());
    assert_eq!(data.len(), 500);
    assert!(poll_once(|cx| a.poll_write(cx, 0, &mut data)).await.is_pending());
    assert_eq!(read(&mut b, 1000).await.len(), 1000);
    assert!(poll_once(|cx| a.poll_write(cx, 0, &mut data)).await.is_ready());

    let slow = PathSettings { bandwidth: Some(1000), queue_bytes: 100, ..PathSettings::default() };
    network.apply(&there(), Change::Shape(slow));
    let start = Instant::now();
    write(&mut a, 0, &[2; 300]).await;
    assert_eq!(start.elapsed(), 200 * MS, "the last hundred bytes may wait in the queue");
}

#[tokio::test(start_paused = true)]
async fn large_writes_vanish_and_small_ones_pass() {
    let network = MemoryNetwork::new(1);
    let (mut a, mut b) = connect(&network, 1).await;
    network.apply(&there(), Change::DropLargerThan(Some(100)));
    write(&mut a, 0, &[1; 101]).await;
    write(&mut a, 0, &[2; 100]).await;
    assert_eq!(read(&mut b, 100).await, vec![2; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_seen_by_both_sides_at_once() {
    let network = MemoryNetwork::new(1);
    network.apply_both(&there(), Change::Latency(50 * MS));
    let (mut a, mut b) = connect(&network, 1).await;
    let start = Instant::now();
    network.apply(&there(), Change::Reset);
    for link in [&mut a, &mut b] {
        let mut buffers = LaneBuffers::default();
        let error = poll_fn(|cx| link.poll_read(cx, &mut buffers)).await.unwrap_err();
        assert!(matches!(error, TransportError::Io(ref io) if io.kind() == io::ErrorKind::ConnectionReset), "{error}");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dials_take_a_round_trip_and_are_refused_or_time_out() {
    let network = MemoryNetwork::new(1);
    network.apply_both(&there(), Change::Latency(25 * MS));
    let a = network.transport("a", &kind());
    let nobody: EndpointAddress = "sim-tcp://b".parse().unwrap();
    let start = Instant::now();
    let refused = a.dial(&nobody, options()).await.unwrap_err();
    assert!(matches!(refused, TransportError::Io(ref io) if io.kind() == io::ErrorKind::ConnectionRefused));
    assert_eq!(start.elapsed(), 50 * MS);
    network.apply(&there(), Change::Cut(Cut::Hold));
    let start = Instant::now();
    assert!(matches!(a.dial(&nobody, options()).await, Err(TransportError::TimedOut(_))));
    assert_eq!(start.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn changes_come_on_schedule() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let network = MemoryNetwork::new(1);
            let (mut a, mut b) = connect(&network, 1).await;
            network.schedule(50 * MS, there(), Change::Cut(Cut::Hold));
            network.schedule(90 * MS, there(), Change::Heal);
            tokio::time::sleep(60 * MS).await;
            let start = Instant::now();
            write(&mut a, 0, b"x").await;
            read(&mut b, 1).await;
            assert_eq!(start.elapsed(), 30 * MS);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn links_that_are_gone_are_forgotten() {
    let network = MemoryNetwork::new(1);
    let ends = connect(&network, 1).await;
    assert_eq!(network.links(), 1);
    drop(ends);
    assert_eq!(network.links(), 0);
}

async fn connect(network: &MemoryNetwork, lanes: Lane) -> Ends {
    let b = network.transport("b", &kind());
    let a = network.transport("a", &kind()).with_lanes(lanes);
    let mut listener = b.listen(&"sim-tcp://b".parse().unwrap()).await.unwrap();
    let address = listener.addresses().remove(0);
    let dialled = a.dial(&address, options()).await.unwrap();
    let incoming = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    (dialled, incoming.accept().await.unwrap())
}

async fn write(link: &mut Box<dyn Link>, lane: Lane, bytes: &[u8]) {
    let mut data = Bytes::copy_from_slice(bytes);
    while !data.is_empty() {
        poll_fn(|cx| link.poll_write(cx, lane, &mut data)).await.unwrap();
    }
}

async fn read(link: &mut Box<dyn Link>, bytes: usize) -> Vec<u8> {
    let mut buffers = LaneBuffers::default();
    while buffers.len() < bytes {
        // One byte could be read too many; then the comparison fails and says so.
        poll_fn(|cx| link.poll_read(cx, &mut buffers)).await.unwrap();
    }
    buffers.lane(0).to_vec()
}

async fn stays_silent(link: &mut Box<dyn Link>, time: Duration) -> bool {
    let mut buffers = LaneBuffers::default();
    tokio::time::timeout(time, poll_fn(|cx| link.poll_read(cx, &mut buffers))).await.is_err()
}

async fn poll_once<T>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<T>) -> std::task::Poll<T> {
    poll_fn(|cx| std::task::Poll::Ready(poll(cx))).await
}
