//! What the TLS listener makes of a connection.

use bowline_messages::TransportKind;
use bytes::Bytes;
use tokio::net::TcpStream;

use super::{TlsLink, TlsTransport, accept, refusal_alert};
use crate::transport::tcp::AcceptsTcp;
use crate::transport::{Link, TransportError, socket};

impl AcceptsTcp for TlsTransport {
    fn kind(&self) -> &TransportKind {
        &self.kind
    }

    async fn accept(self, stream: TcpStream) -> Result<Box<dyn Link>, TransportError> {
        self.tuning.apply(&stream);
        let stream = accept(self.credentials.server(), stream, &self.kind).await?;
        let ends = socket::ends(stream.get_ref().0, &self.kind, None, &self.interfaces)?;
        Ok(Box::new(TlsLink::new(stream, ends)))
    }

    fn refuse(self, stream: TcpStream, packet: Bytes) {
        self.refusals.say(stream, refusal_alert(&packet));
    }
}
