//! Which interface an address belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_messages::link::Interface;

use super::medium_of;

/// A shared table from local addresses to interfaces. A clone is the same table.
///
/// Asking the operating system costs tens of microseconds, so the answer is kept: [`InterfaceTable::forget`] is called when
/// something changed, and an address that is not known leads to a new look.
#[derive(Debug, Clone, Default)]
pub struct InterfaceTable {
    known: Arc<Mutex<BTreeMap<IpAddr, Interface>>>,
}

impl InterfaceTable {
    /// The interface that has this local address; `None` when none has.
    pub fn of_address(&self, address: IpAddr) -> Option<Interface> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&address) {
            *known = look();
        }
        known.get(&address).cloned()
    }

    /// Forgets what is known, because an interface or an address changed.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The addresses of interfaces that can carry traffic now; empty when the operating system does not tell.
fn usable() -> BTreeSet<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    all.into_iter().filter(|found| found.is_loopback() || found.is_oper_up()).map(|found| found.ip()).collect()
}

/// All local addresses with their interfaces; empty when the operating system does not tell.
fn look() -> BTreeMap<IpAddr, Interface> {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    addresses
        .into_iter()
        .map(|found| {
            let ip = found.ip();
            let medium = medium_of(&found.name);
            let index = found.index.unwrap_or(0);
            (ip, Interface { name: found.name, index, medium })
        })
        .collect()
}

/// The addresses under which others can reach this machine: those of its interfaces that are up, IPv4 first, without link-local ones, which mean
/// nothing elsewhere. Loopback addresses only where there are no others: then everybody who can reach it is on this machine.
pub fn reachable_addresses() -> Vec<IpAddr> {
    let all = usable();
    let far: Vec<IpAddr> = all.iter().copied().filter(|ip| !ip.is_loopback() && !is_link_local(ip)).collect();
    if far.is_empty() { all.into_iter().filter(IpAddr::is_loopback).collect() } else { far }
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The first address of a family that an interface has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn address_of(name: &str, v6: bool) -> Option<IpAddr> {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    addresses.into_iter().filter(|found| found.name == name).map(|found| found.ip()).find(|ip| ip.is_ipv6() == v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::link::Medium;
    use std::net::Ipv4Addr;

    #[test]
    fn others_are_told_loopback_addresses_only_when_there_are_no_others() {
        let told = reachable_addresses();
        assert!(!told.is_empty());
        assert!(told.iter().all(|ip| !is_link_local(ip) && !ip.is_unspecified()));
        assert!(told.iter().all(IpAddr::is_loopback) || !told.iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn the_loopback_address_belongs_to_the_loopback_interface() {
        let table = InterfaceTable::default();
        let found = table.of_address(Ipv4Addr::LOCALHOST.into());
        assert_eq!(found.map(|interface| interface.medium), Some(Medium::Loopback));
        assert_eq!(table.of_address(Ipv4Addr::new(192, 0, 2, 77).into()), None);
    }
}
