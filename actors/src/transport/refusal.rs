//! Refusals before any handshake, for transports that begin with a handshake of their own: the number of the reason, in whatever they
//! have room for. Nobody has proven anything by then, as little as with a refusal over plain `tcp`.

use bowline_messages::wire::Refusal;
use bowline_messages::wire::packet::next_packet;
use bytes::BytesMut;

/// The number of the reason in a framed refusal; that of [`Refusal::Busy`] when it is none.
pub(super) fn code(framed: &[u8]) -> u16 {
    let packet = next_packet(&mut BytesMut::from(framed)).ok().flatten();
    let refusal = packet.and_then(|packet| Refusal::decode(packet.get(1..)?).ok());
    refusal.unwrap_or(Refusal::Busy).code()
}

/// The reason with a number, of those that can be told before a handshake: what else a stranger writes means nothing.
pub(super) fn reason(code: u16) -> Refusal {
    let told =
        [Refusal::TooManyConnections, Refusal::SourceLimit, Refusal::CoolDown, Refusal::Busy, Refusal::ShuttingDown];
    told.into_iter().find(|refusal| refusal.code() == code).unwrap_or(Refusal::Unknown(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_can_be_told_before_a_handshake_come_back_and_others_mean_nothing() {
        for refusal in [Refusal::TooManyConnections, Refusal::SourceLimit, Refusal::CoolDown, Refusal::Busy] {
            assert_eq!(reason(code(&refusal.framed())), refusal);
        }
        assert_eq!(reason(Refusal::UnknownTicket.code()), Refusal::Unknown(6));
        for malformed in [&b""[..], b"no", &[0, 0, 0, 1, 6]] {
            assert_eq!(reason(code(malformed)), Refusal::Busy);
        }
    }
}
