//! What the WebSocket listener makes of a connection.

use bowline_messages::TransportKind;
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;

use super::link::{OverTcp, WsLink};
use super::{WsTransport, failure, limits, refusal_response};
use crate::transport::tcp::AcceptsTcp;
use crate::transport::{Link, TransportError, socket, tls};

impl AcceptsTcp for WsTransport {
    fn kind(&self) -> &TransportKind {
        &self.kind
    }

    async fn accept(self, stream: TcpStream) -> Result<Box<dyn Link>, TransportError> {
        self.tuning.apply(&stream);
        match &self.credentials {
            None => upgrade(&self, stream).await,
            Some(credentials) => {
                let stream = tls::accept(credentials.server(), stream, &self.kind).await?;
                upgrade(&self, stream).await
            }
        }
    }

    fn refuse(self, stream: TcpStream, packet: Bytes) {
        let words = if self.credentials.is_some() { tls::refusal_alert(&packet) } else { refusal_response(&packet) };
        self.refusals.say(stream, words);
    }
}

async fn upgrade<S: OverTcp>(transport: &WsTransport, stream: S) -> Result<Box<dyn Link>, TransportError> {
    let ends = socket::ends(stream.tcp(), &transport.kind, None, &transport.interfaces)?;
    let upgraded = accept_async_with_config(stream, Some(limits())).await;
    let stream = upgraded.map_err(|error| failure(&transport.kind, error))?;
    Ok(Box::new(WsLink::new(stream, ends)))
}
