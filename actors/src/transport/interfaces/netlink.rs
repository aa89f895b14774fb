//! The part of Linux' route netlink protocol that tells about interfaces and addresses (`rtnetlink(7)`). Pure: bytes in,
//! reports out. What is malformed or unknown is skipped: it comes from the kernel, and later kernels say more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Groups to join: `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
pub(super) const GROUPS: u32 = 0x1 | 0x10 | 0x100;

const HEADER_BYTES: usize = 16;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x1 | 0x300;

const LINK_HEADER_BYTES: usize = 16;
const LINK_NAME: u16 = 3;
const ADDRESS_HEADER_BYTES: usize = 8;
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;

const FLAG_UP: u32 = 0x1;
const FLAG_RUNNING: u32 = 0x40;

/// What the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// An interface, new or changed.
    Link {
        index: u32,
        name: String,
        /// Administratively up, and with a carrier.
        running: bool,
    },
    /// An interface is gone.
    LinkGone { index: u32 },
    /// An address, new or changed.
    Address { index: u32, ip: IpAddr },
    /// An address is gone.
    AddressGone { index: u32, ip: IpAddr },
    /// A list that was asked for is complete.
    Done,
}

/// Asks for all interfaces.
pub(super) fn list_links() -> Vec<u8> {
    request(GET_LINK, LINK_HEADER_BYTES)
}

/// Asks for all addresses.
pub(super) fn list_addresses() -> Vec<u8> {
    request(GET_ADDRESS, ADDRESS_HEADER_BYTES)
}

fn request(kind: u16, body_bytes: usize) -> Vec<u8> {
    let length = HEADER_BYTES + body_bytes;
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&DUMP.to_ne_bytes());
    message.resize(length, 0);
    message
}

/// Reads every report in a datagram.
pub(super) fn parse(mut datagram: &[u8]) -> Vec<Report> {
    let mut reports = Vec::new();
    while let Some(length) = u32_at(datagram, 0) {
        let length = length as usize;
        let Some(message) = datagram.get(..length).filter(|message| message.len() >= HEADER_BYTES) else { break };
        let kind = u16_at(message, 4).unwrap_or(0);
        reports.extend(report(kind, &message[HEADER_BYTES..]));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    reports
}

fn report(kind: u16, body: &[u8]) -> Option<Report> {
    match kind {
        DONE => Some(Report::Done),
        NEW_LINK => link(body),
        DELETE_LINK => Some(Report::LinkGone { index: u32_at(body, 4)? }),
        NEW_ADDRESS => address(body).map(|(index, ip)| Report::Address { index, ip }),
        DELETE_ADDRESS => address(body).map(|(index, ip)| Report::AddressGone { index, ip }),
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<Report> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let name = attribute(body.get(LINK_HEADER_BYTES..)?, LINK_NAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
    let both = FLAG_UP | FLAG_RUNNING;
    Some(Report::Link { index, name, running: flags & both == both })
}

fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32_at(body, 4)?;
    let attributes = body.get(ADDRESS_HEADER_BYTES..)?;
    // On point-to-point interfaces the other attribute is the far end's.
    let bytes = attribute(attributes, ADDRESS_LOCAL).or_else(|| attribute(attributes, ADDRESS_PEER))?;
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    v4.or(v6).ok().map(|ip| (index, ip))
}

/// The first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn with_attribute(mut header: Vec<u8>, kind: u16, value: &[u8]) -> Vec<u8> {
        header.extend((4 + value.len() as u16).to_ne_bytes());
        header.extend(kind.to_ne_bytes());
        header.extend(value);
        header.resize(header.len().next_multiple_of(4), 0);
        header
    }

    fn link_body(flags: u32) -> Vec<u8> {
        let header = [&[0; 4][..], &7_u32.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat();
        with_attribute(with_attribute(header, 13, &[1]), LINK_NAME, b"eth0\0")
    }

    #[test]
    fn links_and_addresses_are_read() {
        let address = with_attribute([&[0; 4][..], &7_u32.to_ne_bytes()].concat(), ADDRESS_LOCAL, &[10, 0, 0, 1]);
        let datagram = [
            message(NEW_LINK, &link_body(FLAG_UP | FLAG_RUNNING)),
            message(NEW_LINK, &link_body(FLAG_UP)),
            message(99, b"from a later kernel"),
            message(DELETE_ADDRESS, &address),
            message(DONE, &[0; 4]),
        ]
        .concat();
        assert_eq!(
            parse(&datagram),
            [
                Report::Link { index: 7, name: "eth0".into(), running: true },
                Report::Link { index: 7, name: "eth0".into(), running: false },
                Report::AddressGone { index: 7, ip: Ipv4Addr::new(10, 0, 0, 1).into() },
                Report::Done,
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_reports_are_read_without_a_panic(at in 0..60usize, byte in any::<u8>(), cut in 0..80usize) {
            let mut datagram = message(NEW_LINK, &link_body(FLAG_UP));
            if let Some(damaged) = datagram.get_mut(at) {
                *damaged = byte;
            }
            datagram.truncate(cut);
            let _ = parse(&datagram);
        }
    }
}
