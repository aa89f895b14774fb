//! Endpoint addresses: where a transport can reach a peer, written as a URI.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest address that is accepted, in bytes.
const ADDRESS_BYTES_MAX: usize = 255;

/// Names a transport: the scheme of its endpoint addresses (`tcp`, `tls`, `quic`, `ws`, `wss`, `memory`, or a custom one).
///
/// An open set on purpose: a transport that an embedder registers has a name like any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransportKind(Arc<str>);

impl TransportKind {
    /// The transport with this scheme; the scheme is lowered.
    pub fn new(scheme: &str) -> Self {
        Self(scheme.to_ascii_lowercase().into())
    }

    /// The scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a transport can reach a peer: `tcp://192.0.2.1:8765`, `quic://[2001:db8::1]:8765`, `wss://example.org/bowline`,
/// `memory://a`.
///
/// Only the general form is checked here (scheme, host, port, path); whether a host can be resolved or a port is required is
/// the transport's own business.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAddress {
    kind: TransportKind,
    host: Arc<str>,
    port: Option<u16>,
    path: Arc<str>,
}

/// Why a text is not an [`EndpointAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `scheme://` in front. The user's or the peer's mistake; nothing changed.
    #[error("`{0}` is not an address: it has to start with a scheme, as in tcp://host:port")]
    Scheme(String),
    /// The host is missing or has characters that no host has. The user's or the peer's mistake; nothing changed.
    #[error("`{0}` is not an address: its host is missing or malformed")]
    Host(String),
    /// The port is not a number from 0 to 65535. The user's or the peer's mistake; nothing changed.
    #[error("`{0}` is not an address: its port is not a number from 0 to 65535")]
    Port(String),
    /// Longer than 255 bytes. The user's or the peer's mistake; nothing changed.
    #[error("an address has at most 255 bytes, this has {0}")]
    Length(usize),
}

impl EndpointAddress {
    /// An address from its parts. `host` is written without brackets.
    pub fn new(kind: TransportKind, host: &str, port: Option<u16>, path: &str) -> Self {
        Self { kind, host: host.into(), port, path: path.into() }
    }

    /// The address of an IP socket under a transport.
    pub fn from_socket(kind: TransportKind, socket: std::net::SocketAddr) -> Self {
        Self::new(kind, &socket.ip().to_string(), Some(socket.port()), "")
    }

    /// The transport that understands this address.
    pub fn kind(&self) -> &TransportKind {
        &self.kind
    }

    /// The host: a name, an IPv4 or an IPv6 address (without brackets), or a name that only the transport understands.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, when one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path with its leading slash, or nothing.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host as an IP address, when it is one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }

    /// The same address with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { port: Some(port), ..self.clone() }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]", self.kind, self.host)?;
        } else {
            write!(f, "{}://{}", self.kind, self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:%".contains(&b))
}

impl FromStr for EndpointAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::Length(text.len()));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| AddressError::Scheme(text.into()))?;
        if !is_scheme(scheme) {
            return Err(AddressError::Scheme(text.into()));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if path.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(AddressError::Host(text.into()));
        }
        let (host, port) = split_authority(authority).ok_or_else(|| AddressError::Host(text.into()))?;
        if !is_host(host) {
            return Err(AddressError::Host(text.into()));
        }
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| AddressError::Port(text.into()))?)
            }
            Some(_) => return Err(AddressError::Port(text.into())),
            None => None,
        };
        Ok(Self::new(TransportKind::new(scheme), host, port, path))
    }
}

/// Host and port of `host:port`, `[v6]:port`, `host` or `[v6]`.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port))),
        Some(_) => None,
        None => Some((authority, None)),
    }
}

impl Serialize for EndpointAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EndpointAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_addresses_come_back() {
        for text in [
            "tcp://127.0.0.1:7000",
            "quic://[::1]:7000",
            "wss://example.org/bowline",
            "ws://example.org:80/a/b?c=d",
            "memory://a",
            "mesh://abc",
            "tcp://[2001:db8::1]:0",
        ] {
            assert_eq!(text.parse::<EndpointAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_rejected_with_their_reason() {
        let parse = |text: &str| text.parse::<EndpointAddress>();
        assert!(matches!(parse("127.0.0.1:7000"), Err(AddressError::Scheme(_))));
        assert!(matches!(parse("://x"), Err(AddressError::Scheme(_))));
        assert!(matches!(parse("tcp://"), Err(AddressError::Host(_))));
        assert!(matches!(parse("tcp://a b:1"), Err(AddressError::Host(_))));
        assert!(matches!(parse("tcp://::1:7000"), Err(AddressError::Host(_))));
        assert!(matches!(parse("tcp://[nonsense]:1"), Err(AddressError::Host(_))));
        assert!(matches!(parse("tcp://a:70000"), Err(AddressError::Port(_))));
        assert!(matches!(parse("tcp://a:+1"), Err(AddressError::Port(_))));
        assert!(matches!(parse(&format!("tcp://{}", "a".repeat(300))), Err(AddressError::Length(306))));
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_to_something_that_parses_to_the_same(text in "[a-z]{1,5}://[\\[\\]a-z0-9.:/]{0,30}") {
            if let Ok(address) = text.parse::<EndpointAddress>() {
                prop_assert_eq!(address.to_string().parse::<EndpointAddress>().unwrap(), address);
            }
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<EndpointAddress>();
        }
    }
}
