//! Keeps links to one peer established: which addresses are known, which to dial now, when to try again. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::link::{Binding, LinkInfo};
use bowline_messages::session::DialStatus;
use bowline_messages::{EndpointAddress, TransportKind};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Addresses of one peer that are remembered: the given ones and the most recent others.
const ADDRESSES_MAX: usize = 64;
/// The first wait after a failed attempt; doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// An attempt that follows a successful one within this time says that the link did not hold.
const BRIEF: Duration = Duration::from_secs(10);
/// Bounds of the adaptive time-out of an attempt.
const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What a success and a time-out do to it.
const TIMEOUT_SUCCESS: f64 = 0.95;
const TIMEOUT_EXPIRED: f64 = 1.5;
/// An attempt of which nobody has told the end this long after its time-out is over: the session's actor panicked while it was under way, and the
/// result went with it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// An address that the peer told is dialled only after this long, by the side with the smaller `PeerId`; the links that are being
/// dialled already come first.
const LEARNT_GRACE: Duration = Duration::from_millis(500);
/// The same for the other side, so that both do not dial at once.
const LEARNT_GRACE_LARGER: Duration = Duration::from_millis(1500);

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The user or the application gave it: it is tried for as long as the session lives.
    Given,
    /// The peer told it.
    Learnt,
    /// It leads through other peers: it is dialled only while no other link works.
    Fallback,
}

#[derive(Debug)]
struct Target {
    source: Source,
    binding: Binding,
    next: Instant,
    failures: u32,
    /// When the last attempt succeeded: when its link was proven to work.
    connected: Option<Instant>,
    /// A connection stands, and the peer has yet to let it in. It counts as a failure until then.
    unproven: bool,
    /// An attempt is under way, and over by then at the latest.
    dialling: Option<Instant>,
    timeout: Duration,
    /// The next attempt is made whatever failed before.
    at_once: bool,
    /// Whether the peer tells this address, whoever gave it.
    told: bool,
    /// Neither the peer nor anybody here names this address any longer. It is not dialled; an attempt that is under way and the wait after failures are
    /// remembered all the same, or a peer that tells it again would be dialled without a pause.
    withdrawn: bool,
}

impl Target {
    /// When it may be dialled next; `None`: not at all.
    fn due(&self) -> Option<Instant> {
        let next = self.dialling.map_or(self.next, |over| self.next.max(over));
        (!self.withdrawn).then_some(next)
    }

    fn is_dialling(&self, now: Instant) -> bool {
        self.dialling.is_some_and(|over| now < over)
    }
}

/// An attempt to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialOrder {
    /// Where to.
    pub address: EndpointAddress,
    /// To what the link is bound on this side.
    pub binding: Binding,
    /// How long it may take.
    pub timeout: Duration,
    /// It is made whatever failed before.
    pub at_once: bool,
}

/// Keeps links to one peer established.
#[derive(Debug)]
pub struct Keeper {
    links_wanted: usize,
    larger_side: bool,
    /// Whether the peer is reached without others.
    reached: bool,
    targets: BTreeMap<EndpointAddress, Target>,
    rng: ChaCha8Rng,
}

impl Keeper {
    /// A keeper that wants so many links. `larger_side`: whether this side has the larger `PeerId`.
    pub fn new(links_wanted: usize, larger_side: bool, rng: ChaCha8Rng) -> Self {
        Self { links_wanted, larger_side, reached: false, targets: BTreeMap::new(), rng }
    }

    /// An address is known.
    pub fn add(&mut self, now: Instant, address: EndpointAddress, source: Source, binding: Binding) {
        if let Some(target) = self.targets.get_mut(&address) {
            match source {
                Source::Given => {
                    target.source = Source::Given;
                    target.binding = binding;
                    target.next = target.next.min(now);
                }
                Source::Learnt => target.told = true,
                Source::Fallback => target.next = target.next.min(now),
            }
            target.withdrawn = false;
            return;
        }
        if self.targets.len() >= ADDRESSES_MAX {
            self.targets.retain(|_, target| !target.withdrawn || target.is_dialling(now));
        }
        if self.targets.len() >= ADDRESSES_MAX && source == Source::Learnt {
            return;
        }
        let grace = match source {
            Source::Given | Source::Fallback => Duration::ZERO,
            Source::Learnt if self.larger_side => LEARNT_GRACE_LARGER,
            Source::Learnt => LEARNT_GRACE,
        };
        let timeout = Duration::from_secs(5);
        let target = Target {
            source,
            binding,
            next: now + grace,
            failures: 0,
            connected: None,
            unproven: false,
            dialling: None,
            timeout,
            at_once: false,
            told: source == Source::Learnt,
            withdrawn: false,
        };
        self.targets.insert(address, target);
    }

    /// Whether a direct link works now. While one does, no way through others is dialled.
    pub fn set_reached(&mut self, reached: bool) {
        self.reached = reached;
    }

    /// Whether an address is one that is dialled only while no other link works.
    pub fn is_fallback(&self, address: &EndpointAddress) -> bool {
        self.targets.get(address).is_some_and(|target| target.source == Source::Fallback)
    }

    /// Links that take the place of another one. One that is there only while no other works takes none, or nothing better would be sought.
    fn counted(&self, links: &[&LinkInfo]) -> usize {
        links.iter().filter(|link| !(link.initiator && self.is_fallback(&link.remote))).count()
    }

    /// The addresses that the peer tells are these: others that it told before are not dialled any more.
    pub fn set_learnt(&mut self, now: Instant, addresses: impl Iterator<Item = EndpointAddress>) {
        let addresses: Vec<_> = addresses.collect();
        for (address, target) in &mut self.targets {
            target.told = addresses.contains(address);
            target.withdrawn = target.source == Source::Learnt && !target.told;
        }
        self.targets.retain(|_, target| !target.withdrawn || target.is_dialling(now) || target.next > now);
        for address in addresses {
            self.add(now, address, Source::Learnt, Binding::Any);
        }
    }

    /// The addresses given are these: others that were given before are dialled only if the peer tells them, too.
    pub fn set_given(&mut self, now: Instant, addresses: Vec<(EndpointAddress, Binding)>) {
        for (address, target) in &mut self.targets {
            if target.source == Source::Given && addresses.iter().all(|(given, _)| given != address) {
                target.source = Source::Learnt;
                target.binding = Binding::Any;
                target.withdrawn = !target.told;
            }
        }
        self.targets.retain(|_, target| !target.withdrawn || target.is_dialling(now) || target.next > now);
        for (address, binding) in addresses {
            self.add(now, address, Source::Given, binding);
        }
    }

    /// Every address known at which the peer itself can be dialled.
    pub fn addresses(&self) -> Vec<EndpointAddress> {
        let known = |target: &Target| !target.withdrawn && target.source != Source::Fallback;
        self.targets.iter().filter(|(_, target)| known(target)).map(|(address, _)| address.clone()).collect()
    }

    /// How the attempts stand, by address.
    pub fn status(&self, now: Instant) -> Vec<DialStatus> {
        let shown = self.targets.iter().filter(|(_, target)| !target.withdrawn);
        shown
            .map(|(address, target)| DialStatus {
                address: address.clone(),
                under_way: target.is_dialling(now),
                failures: target.failures,
                next_in: target.next.saturating_duration_since(now),
            })
            .collect()
    }

    /// The attempts to make now, given the links there are.
    pub fn orders(&mut self, now: Instant, links: &[&LinkInfo]) -> Vec<DialOrder> {
        let dialling = self.targets.values().filter(|target| target.is_dialling(now)).count();
        let mut room = self.links_wanted.saturating_sub(self.counted(links) + dialling);
        let mut due: Vec<_> = self
            .targets
            .iter()
            .filter(|(address, target)| {
                target.due().is_some_and(|due| due <= now) && self.is_open(address, target, links)
            })
            .map(|(address, target)| (has_transport(address, links), target.failures, address.clone()))
            .collect();
        // Transports that are not in use yet first, then those that failed least.
        due.sort();
        let mut orders = Vec::new();
        for (_, _, address) in due {
            if room == 0 {
                break;
            }
            if let Some(target) = self.targets.get_mut(&address) {
                target.dialling = Some(now + target.timeout + FORGOTTEN_AFTER);
                room -= 1;
                let at_once = std::mem::take(&mut target.at_once);
                orders.push(DialOrder { timeout: target.timeout, binding: target.binding.clone(), at_once, address });
            }
        }
        orders
    }

    /// A connection stands. Whether the peer lets it in is not known yet: a peer that takes every connection and refuses each is not to be
    /// dialled as if all were well.
    pub fn on_connected(&mut self, now: Instant, address: &EndpointAddress) {
        if let Some(target) = self.targets.get_mut(address) {
            target.dialling = None;
            target.unproven = true;
            target.failures = target.failures.saturating_add(1);
            target.next = now + backoff(target.failures);
            target.timeout = target.timeout.mul_f64(TIMEOUT_SUCCESS).max(TIMEOUT_BOUNDS.0);
        }
    }

    /// The peer speaks on the link that an attempt led to: it succeeded.
    pub fn on_proven(&mut self, now: Instant, address: &EndpointAddress) {
        if let Some(target) = self.targets.get_mut(address).filter(|target| target.unproven) {
            (target.unproven, target.at_once) = (false, false);
            // Should the link die at once, the next attempt is immediate; those after it are not: a peer that lets us in only to
            // throw us out is not to be dialled without a pause.
            let brief = target.connected.replace(now).is_some_and(|before| now < before + BRIEF);
            target.failures = if brief { target.failures } else { 0 };
            target.next = if brief { now + backoff(target.failures) } else { now };
        }
    }

    /// An attempt failed.
    pub fn on_failure(&mut self, now: Instant, address: &EndpointAddress, timed_out: bool) {
        let jitter = 0.5 + self.rng.random::<f64>() / 2.0;
        if let Some(target) = self.targets.get_mut(address) {
            target.dialling = None;
            // A connection that was refused in the end has been counted.
            if !std::mem::take(&mut target.unproven) {
                target.failures = target.failures.saturating_add(1);
            }
            // One that the user asked for meanwhile is still to be made.
            let pause = if target.at_once { Duration::ZERO } else { backoff(target.failures).mul_f64(jitter) };
            target.next = now + pause;
            if timed_out {
                target.timeout = target.timeout.mul_f64(TIMEOUT_EXPIRED).min(TIMEOUT_BOUNDS.1);
            }
        }
    }

    /// The network changed: every address is worth an attempt now.
    pub fn on_network_change(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            target.failures = 0;
            target.next = target.next.min(now);
        }
    }

    /// The user asks for the peer at these addresses: they are dialled now, whatever failed before, unless a link stands there.
    pub fn try_at_once(&mut self, now: Instant, addresses: &[EndpointAddress], links: &[&LinkInfo]) {
        for address in addresses {
            let target = self.targets.get_mut(address);
            if let Some(target) = target.filter(|target| !covered(address, target.source, links)) {
                target.at_once = true;
                target.next = target.next.min(now);
            }
        }
    }

    /// Addresses of a transport are dialled at once, as a repair; `patient`: and given twice the time.
    pub fn hurry(&mut self, now: Instant, transport: &TransportKind, patient: bool) {
        for (_, target) in self.targets.iter_mut().filter(|(address, _)| address.kind() == transport) {
            target.failures = 0;
            target.next = target.next.min(now);
            if patient {
                target.timeout = (target.timeout * 2).min(TIMEOUT_BOUNDS.1);
            }
        }
    }

    /// The next moment at which [`Keeper::orders`] may give something.
    pub fn deadline(&self, links: &[&LinkInfo]) -> Option<Instant> {
        let under_way = || self.targets.values().filter_map(|target| target.dialling);
        if self.counted(links) >= self.links_wanted {
            return None;
        }
        let open = self.targets.iter().filter(|(address, target)| self.is_open(address, target, links));
        let due = open.filter_map(|(_, target)| target.due()).min()?;
        let full = self.counted(links) + under_way().count() >= self.links_wanted;
        // There is room again when one of those is over.
        Some(if full { under_way().min().map_or(due, |over| due.max(over)) } else { due })
    }

    /// Whether a link to this address would be worth having.
    fn is_open(&self, address: &EndpointAddress, target: &Target, links: &[&LinkInfo]) -> bool {
        !(covered(address, target.source, links) || self.reached && target.source == Source::Fallback)
    }
}

/// The wait after so many failures in a row, at least one.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(BACKOFF_MAX)
}

/// Whether a link stands already where this address leads.
fn covered(address: &EndpointAddress, source: Source, links: &[&LinkInfo]) -> bool {
    links.iter().any(|link| match (link.initiator, source) {
        (true, Source::Given) => link.remote == *address,
        // What the peer tells leads to the same host as a link over the same transport that stands already, whoever dialled it.
        _ => link.transport == *address.kind() && link.remote.host() == address.host(),
    })
}

fn has_transport(address: &EndpointAddress, links: &[&LinkInfo]) -> bool {
    links.iter().any(|link| link.transport == *address.kind())
}

#[cfg(test)]
mod tests;
