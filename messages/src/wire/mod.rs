//! What crosses the network, byte by byte: packets, the frames inside sealed records, handshake payloads, versions.
//!
//! Pure codecs over `bytes`. Nothing here allocates more than the input it was given justifies, and nothing panics on what a
//! peer sends; `docs/wire.md` has the formats as tables. None of these types is an actor message.

pub mod frame;
pub mod hello;
pub mod packet;
pub mod varint;
pub mod version;

mod reader;

pub use frame::{
    Ack, CloseCode, Fragment, Frame, FrameError, FrameReader, LinkDownCode, MessageFrame, SignedAddresses,
};
pub use hello::{Features, HelloError, HelloParameters, TicketId};
pub use packet::{PACKET_BYTES_MAX, PacketError, PacketType, RecordHeader, RecordNumber, Refusal};
pub use version::{OfferedVersions, Version};
