//! From a participant to the leader of the log: propose this, under this lease. First byte: the version of this format.

use bowline_messages::PeerId;
use bytes::Bytes;

use super::shared::Command;

/// The version of this format.
const VERSION: u8 = 2;
/// Bytes of a command beside its content, at most.
pub const ENVELOPE_BYTES: usize = 160;

/// Why a proposal cannot be read. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// It is of a version that this node does not know.
    #[error("a proposal of version {0}")]
    Version(u8),
    /// It is none.
    #[error("a proposal that cannot be read")]
    Malformed,
}

/// As it travels.
pub fn encode(command: &Command, holder: &PeerId) -> Bytes {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(holder.as_bytes());
    bytes.extend_from_slice(&command.encode());
    bytes.into()
}

/// A command, and who holds the lease under which it is to be proposed.
///
/// # Errors
/// [`ProposalError`].
pub fn decode(bytes: &[u8]) -> Result<(Command, PeerId), ProposalError> {
    let (version, rest) = bytes.split_first().ok_or(ProposalError::Malformed)?;
    if *version != VERSION {
        return Err(ProposalError::Version(*version));
    }
    let (holder, command) = rest.split_first_chunk::<32>().ok_or(ProposalError::Malformed)?;
    let command = Command::decode(command).ok_or(ProposalError::Malformed)?;
    Ok((command, PeerId::from_bytes(*holder)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::CommandId;
    use super::*;
    use crate::partition::wire::Signature;
    use crate::partition::wire::tests::Cheap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fence: u64, life: u64, number: u64, content: Vec<u8>) {
            let id = CommandId { origin: PeerId::from_bytes([3; 32]), life, number };
            let signature = Signature::new(&Cheap(id.origin), &content);
            let command = Command { fence, id, content: content.clone().into(), signature };
            let bytes = encode(&command, &PeerId::from_bytes([4; 32]));
            prop_assert!(command.encode().len() <= content.len() + ENVELOPE_BYTES);
            prop_assert_eq!(decode(&bytes).unwrap(), (command, PeerId::from_bytes([4; 32])));
        }

        #[test]
        fn garbage_is_an_error_and_nothing_else(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
