//! TCP connections over streams: `bowline forward LOCAL PEER:PORT`.
//!
//! After the label, the side that connects answers [`Consent`]; then bytes flow both ways, and each direction ends on its own.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::config::{ForwardConfig, ForwardRule, PeerBook};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::label::{Consent, read_answer, write_answer};

/// How long connecting to the target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are copied at a time, each way.
const COPY_BYTES: usize = 64 * 1024;

/// Which peer may reach which port through this node. Pure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ForwardRules {
    allowed: BTreeMap<(PeerId, u16), ForwardRule>,
    /// Connections a peer may have open at once.
    pub(crate) connections_max: usize,
}

impl ForwardRules {
    /// The rules of the configuration, with names looked up in the peer book.
    pub(crate) fn new(config: &ForwardConfig, book: &PeerBook) -> Self {
        let mut allowed = BTreeMap::new();
        for (name, rules) in &config.allow {
            let peer = book.get(name).map(|entry| entry.id).or_else(|| name.parse().ok());
            for rule in rules {
                // A name that is neither was refused when the configuration was checked.
                if let Some(peer) = peer {
                    allowed.insert((peer, rule.port), rule.clone());
                }
            }
        }
        Self { allowed, connections_max: config.connections_max }
    }

    /// The rule that lets a peer reach a port, if there is one.
    pub(crate) fn rule(&self, peer: PeerId, port: u16) -> Option<&ForwardRule> {
        self.allowed.get(&(peer, port))
    }
}

/// Connects a peer's stream to the target of a rule, and carries bytes until both directions have ended.
///
/// # Errors
/// Those of the target and of the stream; the peer was told when the target cannot be reached.
pub(crate) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    rule: &ForwardRule,
) -> io::Result<(u64, u64)> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((rule.host(), rule.target_port()))).await;
    let mut target = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(target) => target,
        Err(error) => {
            write_answer(stream, &Consent::Refused(format!("port {}: {}", rule.port, error.kind()))).await?;
            return Err(error);
        }
    };
    target.set_nodelay(true)?;
    write_answer(stream, &Consent::Accepted).await?;
    tokio::io::copy_bidirectional_with_sizes(stream, &mut target, COPY_BYTES, COPY_BYTES).await
}

/// Waits for the answer of the peer, which connects to its target first.
///
/// # Errors
/// `ConnectionRefused` with the peer's words when it does not connect; those of the stream.
pub(crate) async fn consent(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    match read_answer(stream).await? {
        Consent::Accepted => Ok(()),
        Consent::Refused(why) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)),
    }
}

/// Carries a local connection over a stream whose peer has consented, until both directions have ended.
///
/// # Errors
/// Those of the connection and of the stream.
pub(crate) async fn carry(
    local: &mut (impl AsyncRead + AsyncWrite + Unpin),
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<(u64, u64)> {
    tokio::io::copy_bidirectional_with_sizes(local, stream, COPY_BYTES, COPY_BYTES).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn a_peer_reaches_only_its_own_ports() {
        let mut config = ForwardConfig::default();
        assert_eq!(ForwardRules::new(&config, &PeerBook::new()).rule(peer(1), 22), None);
        config.allow.insert(peer(1).to_string(), vec!["22".parse().unwrap()]);
        let rules = ForwardRules::new(&config, &PeerBook::new());
        assert!(rules.rule(peer(1), 22).is_some());
        assert!(rules.rule(peer(1), 23).is_none());
        assert!(rules.rule(peer(2), 22).is_none());
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        let rule: ForwardRule = port.to_string().parse().unwrap();
        let (mut local, mut near) = tokio::io::duplex(1024);
        let (mut stream_here, mut stream_there) = tokio::io::duplex(1024);
        let user = async {
            local.write_all(b"question").await.unwrap();
            local.shutdown().await.unwrap();
            let mut answer = String::new();
            local.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let (mut connection, _) = target.accept().await.unwrap();
            let mut question = String::new();
            connection.read_to_string(&mut question).await.unwrap();
            connection.write_all(format!("{question} answered").as_bytes()).await.unwrap();
        };
        let client = async {
            consent(&mut stream_here).await?;
            carry(&mut near, &mut stream_here).await
        };
        let (answer, (), here, there) = tokio::join!(user, server, client, serve(&mut stream_there, &rule));
        assert_eq!(answer, "question answered");
        assert_eq!(here.unwrap(), (8, 17));
        assert_eq!(there.unwrap(), (8, 17));
    }

    #[tokio::test]
    async fn a_target_that_refuses_is_told_to_the_other_side() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let rule: ForwardRule = closed.to_string().parse().unwrap();
        let (mut here, mut there) = tokio::io::duplex(1024);
        let (consented, served) = tokio::join!(consent(&mut here), serve(&mut there, &rule));
        assert_eq!(consented.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(served.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
