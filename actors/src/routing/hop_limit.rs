//! How far packets go, so that the limit of one does not tell where it begins.

use super::wire::MeshPacket;

/// Nodes more than its route has that a packet may pass, for detours.
const HOPS_SPARE: u8 = 3;

/// Draws hop limits.
#[derive(Debug)]
pub(super) struct HopLimit {
    /// The longest way.
    most: u8,
    secret: [u8; blake3::KEY_LEN],
}

impl HopLimit {
    /// Of packets that pass at most this many nodes; nobody else may know the secret.
    pub(super) const fn new(most: u8, secret: [u8; blake3::KEY_LEN]) -> Self {
        Self { most, secret }
    }

    /// The hop limit of a packet of this node. It is drawn once for each link, or the highest of a few packets would tell the first relay
    /// that they begin here.
    pub(super) fn first(&self, packet: &MeshPacket, labels: usize) -> u8 {
        match u8::try_from(labels).unwrap_or(u8::MAX) {
            // The way was found by distance: how long it is is not known, so the draw comes on top of what it may be.
            0 => self.most + self.draw(b"first", packet) % self.most,
            // Each relay takes off one hop and one label, so that what is spare is the same all the way.
            labels => labels.saturating_add(1 + HOPS_SPARE),
        }
    }

    /// Nodes that a packet of somebody else may pass behind this one. Of what has the highest limit there is, every other link keeps it
    /// here: so nobody can be sure that it begins at the node before.
    pub(super) fn left(&self, packet: &MeshPacket) -> u8 {
        let highest = 2 * self.most - 1;
        let keeps = packet.hops == highest && packet.labels.is_empty() && self.draw(b"keeps", packet).is_multiple_of(2);
        if keeps { highest } else { packet.hops.saturating_sub(1) }
    }

    /// A number that is always the same for a link, and that nobody else can know.
    fn draw(&self, what: &[u8; 5], packet: &MeshPacket) -> u8 {
        let mut hash = blake3::Hasher::new_keyed(&self.secret);
        hash.update(what).update(packet.destination.as_bytes()).update(&packet.connection.0);
        hash.finalize().as_bytes()[0]
    }
}
