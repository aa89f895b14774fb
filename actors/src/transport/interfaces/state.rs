//! Which interfaces can carry traffic, from the reports of the operating system. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bowline_messages::link::InterfaceChanged;

use super::netlink::Report;

#[derive(Debug, Default)]
struct State {
    name: String,
    running: bool,
    addresses: BTreeSet<IpAddr>,
}

impl State {
    fn is_up(&self) -> bool {
        self.running && !self.addresses.is_empty()
    }
}

/// All interfaces that are known.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    known: BTreeMap<u32, State>,
}

impl Interfaces {
    /// Takes a report. Gives what subscribers are to be told.
    pub(super) fn on_report(&mut self, report: Report) -> Option<InterfaceChanged> {
        match report {
            Report::Link { index, name, running } => self.change(index, |state| {
                state.name = name;
                state.running = running;
            }),
            Report::LinkGone { index } => {
                let gone = self.known.remove(&index).filter(State::is_up)?;
                Some(InterfaceChanged { name: gone.name, index, up: false })
            }
            Report::Address { index, ip } => self.change(index, |state| {
                state.addresses.insert(ip);
            }),
            Report::AddressGone { index, ip } => self.change(index, |state| {
                state.addresses.remove(&ip);
            }),
            Report::Done => None,
        }
    }

    /// What has changed since an older look.
    pub(super) fn since(&self, older: &Self) -> Vec<InterfaceChanged> {
        let is_up = |all: &Self, index| all.known.get(index).is_some_and(State::is_up);
        let either: BTreeMap<&u32, &State> = older.known.iter().chain(&self.known).collect();
        let changed = either.into_iter().filter(|(index, _)| is_up(self, index) != is_up(older, index));
        changed
            .map(|(index, state)| InterfaceChanged { name: state.name.clone(), index: *index, up: is_up(self, index) })
            .collect()
    }

    fn change(&mut self, index: u32, change: impl FnOnce(&mut State)) -> Option<InterfaceChanged> {
        let state = self.known.entry(index).or_default();
        let before = state.is_up();
        change(state);
        let up = state.is_up();
        (before != up).then(|| InterfaceChanged { name: state.name.clone(), index, up })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    fn link(running: bool) -> Report {
        Report::Link { index: 2, name: "eth0".into(), running }
    }

    fn changed(up: bool) -> Option<InterfaceChanged> {
        Some(InterfaceChanged { name: "eth0".into(), index: 2, up })
    }

    #[test]
    fn an_interface_is_up_with_a_carrier_and_an_address() {
        let ip: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let other: IpAddr = Ipv4Addr::new(10, 0, 0, 2).into();
        let mut interfaces = Interfaces::default();
        assert_eq!(interfaces.on_report(link(true)), None);
        assert_eq!(interfaces.on_report(Report::Address { index: 2, ip }), changed(true));
        assert_eq!(interfaces.on_report(Report::Address { index: 2, ip: other }), None);
        assert_eq!(interfaces.on_report(link(true)), None, "nothing new");
        assert_eq!(interfaces.on_report(Report::AddressGone { index: 2, ip }), None, "another is left");
        assert_eq!(interfaces.on_report(link(false)), changed(false));
        assert_eq!(interfaces.on_report(link(true)), changed(true));
        assert_eq!(interfaces.on_report(Report::AddressGone { index: 2, ip: other }), changed(false));
        assert_eq!(interfaces.on_report(Report::LinkGone { index: 2 }), None, "it was down already");
        assert_eq!(interfaces.on_report(Report::LinkGone { index: 9 }), None);
    }

    #[test]
    fn a_new_look_tells_what_was_missed() {
        let ip: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let mut older = Interfaces::default();
        older.on_report(link(true));
        older.on_report(Report::Address { index: 2, ip });
        let gone = Interfaces::default();
        assert_eq!(gone.since(&older), [changed(false).unwrap()]);
        assert_eq!(older.since(&gone), [changed(true).unwrap()]);
        assert_eq!(older.since(&older), []);
    }

    #[test]
    fn an_interface_that_vanishes_is_down() {
        let ip: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let mut interfaces = Interfaces::default();
        interfaces.on_report(link(true));
        interfaces.on_report(Report::Address { index: 2, ip });
        assert_eq!(interfaces.on_report(Report::LinkGone { index: 2 }), changed(false));
    }
}
