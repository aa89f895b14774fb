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
                orders.push(DialOrder { timeout: target.timeout, binding: target.binding.clone(), address });
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
            target.unproven = false;
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
            target.next = now + backoff(target.failures).mul_f64(jitter);
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bowline_messages::LinkId;
    use rand::SeedableRng;

    fn keeper(links: usize) -> Keeper {
        Keeper::new(links, false, ChaCha8Rng::seed_from_u64(1))
    }

    fn address(text: &str) -> EndpointAddress {
        text.parse().unwrap()
    }

    fn link(remote: &str, initiator: bool) -> LinkInfo {
        let remote = address(remote);
        LinkInfo {
            id: LinkId(1),
            transport: remote.kind().clone(),
            local: remote.clone(),
            remote,
            interface: None,
            initiator,
        }
    }

    #[test]
    fn given_addresses_are_dialled_at_once_up_to_the_number_wanted() {
        let now = Instant::now();
        let mut keeper = keeper(2);
        for text in ["tcp://a:1", "quic://a:1", "ws://a:1"] {
            keeper.add(now, address(text), Source::Given, Binding::Any);
        }
        assert_eq!(keeper.orders(now, &[]).len(), 2);
        assert_eq!(keeper.orders(now, &[]), []);
    }

    #[test]
    fn a_way_through_others_is_dialled_only_while_no_direct_link_works() {
        let now = Instant::now();
        let mut keeper = keeper(4);
        keeper.add(now, address("mesh://a"), Source::Fallback, Binding::Any);
        keeper.set_reached(true);
        assert_eq!((keeper.orders(now, &[&link("tcp://a:1", true)]), keeper.deadline(&[])), (Vec::new(), None));
        keeper.set_reached(false);
        assert_eq!(keeper.deadline(&[]), Some(now));
        assert_eq!(keeper.orders(now, &[&link("tcp://a:1", true)])[0].address, address("mesh://a"));
        keeper.on_connected(now, &address("mesh://a"));
        keeper.on_proven(now, &address("mesh://a"));
        keeper.set_reached(true);
        assert!(keeper.is_fallback(&address("mesh://a")));
        // One that the user gave is a spare like any other.
        keeper.add(now, address("mesh://a"), Source::Given, Binding::Any);
        assert_eq!(keeper.orders(now, &[&link("tcp://a:1", true)])[0].address, address("mesh://a"));
        assert!(!keeper.is_fallback(&address("mesh://a")));
    }

    #[test]
    fn a_way_through_others_takes_no_direct_links_place() {
        let now = Instant::now();
        let mut keeper = keeper(1);
        keeper.add(now, address("mesh://a"), Source::Fallback, Binding::Any);
        keeper.set_reached(false);
        assert_eq!(keeper.orders(now, &[]).len(), 1);
        keeper.on_connected(now, &address("mesh://a"));
        keeper.on_proven(now, &address("mesh://a"));
        keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
        let mesh = link("mesh://a", true);
        assert!(keeper.deadline(&[&mesh]).is_some());
        assert_eq!(keeper.orders(now, &[&mesh])[0].address, address("tcp://a:1"));
    }

    #[test]
    fn the_status_tells_what_is_under_way_what_failed_and_when_it_is_tried_again() {
        let now = Instant::now();
        let mut keeper = keeper(2);
        keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
        let never =
            DialStatus { address: address("tcp://a:1"), under_way: false, failures: 0, next_in: Duration::ZERO };
        assert_eq!(keeper.status(now), std::slice::from_ref(&never));
        keeper.orders(now, &[]);
        assert_eq!(keeper.status(now), [DialStatus { under_way: true, ..never }]);
        keeper.on_failure(now, &address("tcp://a:1"), false);
        let failed = keeper.status(now).remove(0);
        assert!(!failed.under_way && failed.failures == 1 && failed.next_in > Duration::ZERO, "{failed:?}");
        assert_eq!(keeper.status(now + failed.next_in).remove(0).next_in, Duration::ZERO);
    }

    #[test]
    fn addresses_that_are_given_no_longer_are_not_dialled_unless_the_peer_tells_them() {
        let now = Instant::now();
        let mut keeper = keeper(4);
        let given = |texts: &[&str]| texts.iter().map(|text| (address(text), Binding::Any)).collect();
        keeper.set_given(now, given(&["tcp://a:1", "tcp://b:1", "tcp://c:1"]));
        keeper.set_learnt(now, [address("tcp://b:1")].into_iter());
        assert_eq!(keeper.orders(now, &[]).len(), 3);
        for text in ["tcp://a:1", "tcp://b:1", "tcp://c:1"] {
            keeper.on_failure(now, &address(text), false);
        }
        keeper.set_given(now, given(&["tcp://c:1", "tcp://d:1"]));
        let dialled = |keeper: &mut Keeper, now| {
            keeper.orders(now, &[]).iter().map(|order| order.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(dialled(&mut keeper, now + BACKOFF_MAX), ["tcp://d:1", "tcp://b:1", "tcp://c:1"]);
        keeper.set_given(now, given(&["tcp://d:1"]));
        keeper.set_learnt(now, [].into_iter());
        assert_eq!(keeper.addresses(), [address("tcp://d:1")]);
    }

    #[test]
    fn an_attempt_whose_end_nobody_tells_is_over_after_its_time() {
        let mut now = Instant::now();
        for wanted in [1, 2] {
            let mut keeper = keeper(wanted);
            keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
            let timeout = keeper.orders(now, &[])[0].timeout;
            assert_eq!(keeper.orders(now + timeout, &[]), []);
            let again = keeper.deadline(&[]).unwrap();
            assert!(again > now + timeout && again < now + timeout * 2);
            now = again;
            assert_eq!(keeper.orders(now, &[]).len(), 1);
        }
    }

    #[test]
    fn a_spare_prefers_a_transport_that_is_not_in_use() {
        let now = Instant::now();
        let mut keeper = keeper(2);
        keeper.add(now, address("tcp://b:1"), Source::Given, Binding::Any);
        keeper.add(now, address("ws://c:1"), Source::Given, Binding::Any);
        let tcp = link("tcp://a:1", true);
        let orders = keeper.orders(now, &[&tcp]);
        assert_eq!(orders.iter().map(|o| o.address.to_string()).collect::<Vec<_>>(), ["ws://c:1"]);
    }

    #[test]
    fn failures_back_off_without_end_and_a_network_change_starts_over() {
        let mut now = Instant::now();
        let mut keeper = keeper(1);
        let only = address("tcp://a:1");
        keeper.add(now, only.clone(), Source::Given, Binding::Any);
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert_eq!(keeper.orders(now, &[]).len(), 1);
            keeper.on_failure(now, &only, false);
            let next = keeper.deadline(&[]).unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits[0] <= BACKOFF_FIRST && waits[19] <= BACKOFF_MAX && waits[19] >= BACKOFF_MAX / 2);
        assert_eq!(keeper.orders(now, &[]).len(), 1);
        keeper.on_failure(now, &only, true);
        assert_eq!(keeper.orders(now, &[]), []);
        keeper.on_network_change(now);
        assert_eq!(keeper.orders(now, &[]).len(), 1);
    }

    #[test]
    fn links_that_do_not_hold_are_dialled_ever_less_often() {
        let mut now = Instant::now();
        let mut keeper = keeper(1);
        let only = address("tcp://a:1");
        keeper.add(now, only.clone(), Source::Given, Binding::Any);
        let mut dials = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            dials += keeper.orders(now, &[]).len();
            // Each succeeds, and its link is gone at once.
            keeper.on_connected(now, &only);
            keeper.on_proven(now, &only);
            now = keeper.deadline(&[]).unwrap().max(now + Duration::from_millis(20));
        }
        assert!((3..30).contains(&dials), "{dials}");
    }

    /// The wait before the next attempt, when each connection stands, and then `end` becomes of it.
    fn waits(end: impl Fn(&mut Keeper, Instant, &EndpointAddress)) -> Vec<Duration> {
        let mut now = Instant::now();
        let mut keeper = keeper(1);
        let only = address("tcp://a:1");
        keeper.add(now, only.clone(), Source::Given, Binding::Any);
        let attempt = |_| {
            assert_eq!(keeper.orders(now, &[]).len(), 1);
            keeper.on_connected(now, &only);
            end(&mut keeper, now, &only);
            let wait = keeper.deadline(&[]).unwrap() - now;
            now += wait;
            wait
        };
        (0..12).map(attempt).collect()
    }

    #[test]
    fn a_connection_that_the_peer_refuses_is_no_success_and_backs_off_like_any_failure() {
        let refused = waits(|keeper, now, only| keeper.on_failure(now, only, false));
        let silent = waits(|_, _, _| {});
        for waits in [refused, silent] {
            for (wait, failures) in waits.iter().zip(1..) {
                assert!(*wait >= backoff(failures) / 2 && *wait <= backoff(failures), "{waits:?}");
            }
            assert!(waits[11] >= BACKOFF_MAX / 2, "{waits:?}");
        }
    }

    #[test]
    fn a_link_that_works_wipes_out_the_failures_before_it() {
        let now = Instant::now();
        let (mut keeper, only) = (keeper(1), address("tcp://a:1"));
        keeper.add(now, only.clone(), Source::Given, Binding::Any);
        for _ in 0..5 {
            keeper.on_failure(now, &only, false);
        }
        keeper.on_connected(now, &only);
        assert_eq!(keeper.status(now)[0].failures, 6);
        keeper.on_proven(now, &only);
        assert_eq!((keeper.status(now)[0].failures, keeper.deadline(&[])), (0, Some(now)));
        // A second record of the peer's, or the same link in another life of the session's actor, is no second success.
        keeper.on_proven(now, &only);
        assert_eq!((keeper.status(now)[0].failures, keeper.deadline(&[])), (0, Some(now)));
    }

    #[test]
    fn what_the_peer_tells_is_not_dialled_where_its_own_link_stands() {
        let now = Instant::now();
        let mut keeper = keeper(4);
        keeper.set_learnt(now, [address("tcp://10.0.0.2:8765"), address("quic://10.0.0.2:8765")].into_iter());
        let accepted = link("tcp://10.0.0.2:51234", false);
        assert_eq!(keeper.orders(now, &[&accepted]), [], "not yet");
        let later = now + LEARNT_GRACE;
        let orders = keeper.orders(later, &[&accepted]);
        assert_eq!(orders.iter().map(|o| o.address.to_string()).collect::<Vec<_>>(), ["quic://10.0.0.2:8765"]);
    }

    #[test]
    fn an_address_that_is_told_again_while_it_is_dialled_keeps_its_result_and_its_back_off() {
        let now = Instant::now();
        let mut keeper = keeper(1);
        let only = address("tcp://10.0.0.2:1");
        let tell = |keeper: &mut Keeper, now, told: &[&EndpointAddress]| {
            keeper.set_learnt(now, told.iter().map(|address| (*address).clone()));
        };
        tell(&mut keeper, now, &[&only]);
        let mut now = now + LEARNT_GRACE;
        for failures in 1..=6 {
            assert_eq!(keeper.orders(now, &[]).len(), 1);
            tell(&mut keeper, now, &[]);
            assert_eq!((keeper.addresses(), keeper.deadline(&[])), (Vec::new(), None));
            keeper.on_failure(now, &only, true);
            tell(&mut keeper, now, &[]);
            tell(&mut keeper, now, &[&only]);
            let next = keeper.deadline(&[]).unwrap();
            assert!(next >= now + backoff(failures) / 2, "attempt {failures} is followed after {:?}", next - now);
            now = next;
        }
        tell(&mut keeper, now + BACKOFF_MAX, &[]);
        assert!(keeper.targets.is_empty(), "once its wait is over it is forgotten");
    }

    #[test]
    fn the_peer_cannot_make_the_list_grow() {
        let now = Instant::now();
        let mut keeper = keeper(4);
        for host in 0..10_000 {
            keeper.add(now, address(&format!("tcp://h{host}:1")), Source::Learnt, Binding::Any);
        }
        assert_eq!(keeper.addresses().len(), ADDRESSES_MAX);
        for host in 0..10_000 {
            keeper.set_learnt(now, std::iter::once(address(&format!("tcp://g{host}:1"))));
        }
        assert!(keeper.targets.len() <= ADDRESSES_MAX);
        assert_eq!(keeper.addresses(), [address("tcp://g9999:1")]);
    }
}
