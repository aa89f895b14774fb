//! What a pair does when nothing fails: how much all links together carry, how evenly, a thousand messages at once, and what watching idle links
//! costs. The links are the media as they usually are.

use std::time::Duration;

use bowline_messages::config::SessionConfig;
use bowline_messages::session::Outgoing;
use bowline_messages::{ChannelId, MessageClass, PolicyName};
use serde::Serialize;

use super::SoakError;
use super::condition::Condition;
use super::judge::{Sequence, Side};
use super::media::{MEDIA, MEDIA_COUNT};
use super::stats::Share;
use super::traffic::compose;
use super::world::World;
use crate::health::probing::budget_bytes;
use crate::transport::memory::Change;

/// Links and sessions stand, and estimates are made, by then.
const WARM_UP: Duration = Duration::from_secs(5);
/// Bytes that wait in the session when it is to send as much as it can.
const QUEUED_BYTES: usize = 4 << 20;
/// Bytes in a message of a large transfer.
const BULK_BYTES: usize = 64 << 10;
/// The place of bulk among the sorts of messages.
const BULK: usize = 3;
/// How often more is sent.
const FEED_EVERY: Duration = Duration::from_millis(5);
/// The share of what all links carry that is sent where congestion can be avoided.
const OFFERED: f64 = 0.7;
/// A link whose queue takes longer is congested.
const CONGESTED: Duration = Duration::from_millis(100);
/// Bytes a second of a stream that is just no longer light …
const STEADY_PER_SECOND: f64 = 1e6;
/// … and in each of its messages: for small ones most acknowledgements are needed.
const STEADY_BYTES: usize = 1_000;
/// How many messages are sent at once.
const AT_ONCE: usize = 1_000;
/// Bytes in each of those.
const AT_ONCE_BYTES: usize = 1_024;
/// An idle pair is left alone first for so long.
const SETTLED: Duration = Duration::from_secs(60);

/// How much all links together carry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// Bytes a second delivered.
    pub delivered: f64,
    /// Bytes a second that all links can carry.
    pub sum: f64,
    /// The first in percent of the second.
    pub percent_of_sum: f64,
    /// Percent more than the best single link can carry.
    pub percent_over_best: f64,
    /// Share of each link's capacity that was used, in percent, by transport.
    pub used_percent: [f64; MEDIA_COUNT],
    /// Bytes of records without messages (probes, and acknowledgements that travel alone), in percent of all bytes in both directions.
    pub overhead_percent: f64,
}

/// What a steady stream of small messages costs beside itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steady {
    /// Bytes a second delivered.
    pub delivered: f64,
    /// As in [`Throughput::overhead_percent`].
    pub overhead_percent: f64,
}

/// How evenly a load is spread that all links together can carry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// Percent of what all links can carry that was sent.
    pub offered_percent: f64,
    /// Variance over links of the share of their capacity that is used, mean over seconds, in percent.
    pub load_variance_percent: f64,
    /// Seconds of links without a queue of more than 100 ms.
    pub uncongested: Share,
    /// Share of each link's capacity that was used, in percent, by transport.
    pub used_percent: [f64; MEDIA_COUNT],
}

/// What became of many messages sent at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtOnce {
    /// How many were delivered, of those sent.
    pub delivered: Share,
    /// Bytes of records with messages that each transport carried.
    pub bytes_by_transport: [u64; MEDIA_COUNT],
}

/// What an idle pair sends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Idle {
    /// Bytes a second over each transport, both directions together.
    pub bytes_per_second: [f64; MEDIA_COUNT],
    /// What the medium's budget allows each side, twice.
    pub budget_per_second: [f64; MEDIA_COUNT],
}

/// Everything that is measured without failures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calm {
    /// As much as possible.
    pub throughput: Throughput,
    /// A megabyte a second in small messages, one way.
    pub steady: Steady,
    /// Less than as much as possible, where each message takes the earliest arrival (`LoadBalanced`).
    pub spread: Spread,
    /// The same, where each takes the link with the least under way (`LeastConnections`).
    pub even: Spread,
    /// A thousand at once.
    pub at_once: AtOnce,
    /// Nothing.
    pub idle: Idle,
}

/// Measures everything; each part on nodes of its own, and for so long where time matters.
pub(super) fn measure(seed: u64, lasts: Duration, network: bool) -> Result<Calm, SoakError> {
    use crate::testing::sim::run_without_sockets as run;
    Ok(Calm {
        throughput: run(throughput(seed, lasts, network))?,
        steady: run(steady(seed, lasts, network))?,
        spread: run(spread(seed, lasts, PolicyName::LoadBalanced, network))?,
        even: run(spread(seed, lasts, PolicyName::LeastConnections, network))?,
        at_once: run(at_once(seed, network))?,
        idle: run(idle(seed, lasts * 60, network))?,
    })
}

/// Two nodes with all links between them.
async fn stage(seed: u64, network: bool) -> Result<World, SoakError> {
    let world = World::new(seed, 2, &SessionConfig::default(), network)?;
    for (medium, model) in MEDIA.iter().enumerate() {
        let settings = Condition::usual(model).settings();
        world.shared.network.apply_both(&world.shared.path(0, 1, medium), Change::Shape(settings));
    }
    world.connect().await?;
    tokio::time::sleep(WARM_UP).await;
    world.find_sessions().await;
    Ok(world)
}

fn capacity() -> f64 {
    MEDIA.iter().map(|model| model.bandwidth as f64).sum()
}

/// Sends so many messages of a bulk transfer. What is refused is not sent.
fn send_bulk(world: &World, count: usize, bytes: usize, policy: PolicyName) {
    let sequence = Sequence { from: 0, to: 1, sort: BULK };
    let Some(session) = world.nodes[0].session(1) else { return };
    for _ in 0..count {
        let mut judge = world.shared.judge.borrow_mut();
        let content = compose(judge.deliveries.next(sequence), bytes);
        let message = Outgoing::new(MessageClass::Bulk, content).on(ChannelId(BULK as u32));
        let message = Outgoing { policy: Some(policy), ..message };
        if session.send(message).is_err() {
            return;
        }
        judge.on_sent(world.shared.now(), sequence);
    }
}

fn watch(world: &World) {
    for medium in 0..MEDIA_COUNT {
        world.shared.watch(Side { node: 0, peer: 1, medium });
        world.shared.watch(Side { node: 1, peer: 0, medium });
    }
}

/// Bytes written from the first node to the second, by transport.
fn written(world: &World) -> [u64; MEDIA_COUNT] {
    std::array::from_fn(|medium| world.shared.network.written(&world.shared.path(0, 1, medium)).bytes)
}

fn used_percent(written: [u64; MEDIA_COUNT], seconds: f64) -> [f64; MEDIA_COUNT] {
    std::array::from_fn(|medium| 100.0 * written[medium] as f64 / (MEDIA[medium].bandwidth as f64 * seconds))
}

async fn throughput(seed: u64, lasts: Duration, network: bool) -> Result<Throughput, SoakError> {
    let world = stage(seed, network).await?;
    let Some(session) = world.nodes[0].session(1) else { return Err(SoakError::setup("no session")) };
    let begins = world.shared.now() + WARM_UP;
    let (mut before, mut measuring) = (0, false);
    while world.shared.now() < begins + lasts {
        let room = QUEUED_BYTES.saturating_sub(session.queued().1);
        send_bulk(&world, room / BULK_BYTES, BULK_BYTES, PolicyName::LoadBalanced);
        tokio::time::sleep(FEED_EVERY).await;
        if !measuring && world.shared.now() >= begins {
            measuring = true;
            before = world.shared.judge.borrow().deliveries.totals.bytes;
            watch(&world);
        }
    }
    let (seconds, sum) = (lasts.as_secs_f64(), capacity());
    let delivered = (world.shared.judge.borrow().deliveries.totals.bytes - before) as f64 / seconds;
    let best = MEDIA.iter().map(|model| model.bandwidth as f64).fold(0.0, f64::max);
    Ok(Throughput {
        delivered,
        sum,
        percent_of_sum: 100.0 * delivered / sum,
        percent_over_best: 100.0 * (delivered / best - 1.0),
        used_percent: used_percent(written(&world), seconds),
        overhead_percent: overhead_percent(&world),
    })
}

/// Bytes of records without messages in percent of all since the world is watched.
fn overhead_percent(world: &World) -> f64 {
    let (mut all, mut small) = (0, 0);
    for medium in 0..MEDIA_COUNT {
        for (from, to) in [(0, 1), (1, 0)] {
            let written = world.shared.network.written(&world.shared.path(from, to, medium));
            all += written.bytes;
            small += written.small_bytes;
        }
    }
    100.0 * small as f64 / all.max(1) as f64
}

async fn steady(seed: u64, lasts: Duration, network: bool) -> Result<Steady, SoakError> {
    let world = stage(seed, network).await?;
    let begins = world.shared.now() + WARM_UP;
    let (mut before, mut debt, mut measuring) = (0, 0.0, false);
    while world.shared.now() < begins + lasts {
        debt += STEADY_PER_SECOND * FEED_EVERY.as_secs_f64() / STEADY_BYTES as f64;
        let count = debt as usize;
        debt -= count as f64;
        send_bulk(&world, count, STEADY_BYTES, PolicyName::FastestFirst);
        tokio::time::sleep(FEED_EVERY).await;
        if !measuring && world.shared.now() >= begins {
            measuring = true;
            before = world.shared.judge.borrow().deliveries.totals.bytes;
            watch(&world);
        }
    }
    let delivered = (world.shared.judge.borrow().deliveries.totals.bytes - before) as f64 / lasts.as_secs_f64();
    Ok(Steady { delivered, overhead_percent: overhead_percent(&world) })
}

async fn spread(seed: u64, lasts: Duration, policy: PolicyName, network: bool) -> Result<Spread, SoakError> {
    let world = stage(seed, network).await?;
    let (begins, mut debt) = (world.shared.now() + WARM_UP, 0.0);
    let (mut uncongested, mut variances) = (Share::default(), Vec::new());
    let (mut measuring, mut last, mut at_begin) = (false, [0; MEDIA_COUNT], [0; MEDIA_COUNT]);
    let mut second = begins;
    while world.shared.now() < begins + lasts {
        debt += capacity() * OFFERED * FEED_EVERY.as_secs_f64();
        let count = (debt / BULK_BYTES as f64) as usize;
        debt -= (count * BULK_BYTES) as f64;
        send_bulk(&world, count, BULK_BYTES, policy);
        tokio::time::sleep(FEED_EVERY).await;
        if world.shared.now() < second {
            continue;
        }
        second += Duration::from_secs(1);
        if !measuring {
            measuring = true;
            watch(&world);
            (last, at_begin) = (written(&world), written(&world));
            continue;
        }
        let now = written(&world);
        let used = std::array::from_fn::<_, MEDIA_COUNT, _>(|m| (now[m] - last[m]) as f64 / MEDIA[m].bandwidth as f64);
        last = now;
        let mean = used.iter().sum::<f64>() / MEDIA_COUNT as f64;
        variances.push(used.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / MEDIA_COUNT as f64);
        for medium in 0..MEDIA_COUNT {
            let queue = world.shared.network.queue_delay(&world.shared.path(0, 1, medium));
            uncongested.count(queue <= CONGESTED);
        }
    }
    let seconds = variances.len().max(1) as f64;
    let sent = std::array::from_fn(|medium| last[medium] - at_begin[medium]);
    Ok(Spread {
        offered_percent: 100.0 * OFFERED,
        load_variance_percent: 100.0 * variances.iter().sum::<f64>() / seconds,
        uncongested,
        used_percent: used_percent(sent, seconds),
    })
}

async fn at_once(seed: u64, network: bool) -> Result<AtOnce, SoakError> {
    let world = stage(seed, network).await?;
    let Some(session) = world.nodes[0].session(1) else { return Err(SoakError::setup("no session")) };
    let sequence = Sequence { from: 0, to: 1, sort: BULK };
    watch(&world);
    for _ in 0..AT_ONCE {
        let mut judge = world.shared.judge.borrow_mut();
        let content = compose(judge.deliveries.next(sequence), AT_ONCE_BYTES);
        let message = Outgoing::new(MessageClass::Bulk, content).on(ChannelId(BULK as u32));
        let message = Outgoing { policy: Some(PolicyName::LoadBalanced), ..message };
        if session.send(message).is_ok() {
            judge.on_sent(world.shared.now(), sequence);
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let mut judge = world.shared.judge.borrow_mut();
    let totals = judge.deliveries.finish();
    let whole = totals.delivered.saturating_sub(totals.duplicated + totals.corrupted);
    let carried = |medium| {
        let written = world.shared.network.written(&world.shared.path(0, 1, medium));
        written.bytes - written.small_bytes
    };
    Ok(AtOnce { delivered: Share { of: whole, all: AT_ONCE as u64 }, bytes_by_transport: std::array::from_fn(carried) })
}

async fn idle(seed: u64, lasts: Duration, network: bool) -> Result<Idle, SoakError> {
    let world = stage(seed, network).await?;
    tokio::time::sleep(SETTLED).await;
    watch(&world);
    tokio::time::sleep(lasts).await;
    let bytes = |from, to, medium| world.shared.network.written(&world.shared.path(from, to, medium)).bytes as f64;
    let both = |medium| (bytes(0, 1, medium) + bytes(1, 0, medium)) / lasts.as_secs_f64();
    Ok(Idle {
        bytes_per_second: std::array::from_fn(both),
        budget_per_second: std::array::from_fn(|medium| 2.0 * budget_bytes(MEDIA[medium].medium)),
    })
}
