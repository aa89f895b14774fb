//! How what nodes say to each other about partitions is written.

/// Peers as their 32 bytes instead of the text that people read, for `#[serde(with = "peer_bytes")]`.
pub(crate) mod peer_bytes {
    use bowline_messages::PeerId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the key.
    pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        peer.as_bytes().serialize(serializer)
    }

    /// Reads a key.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(PeerId::from_bytes)
    }
}
