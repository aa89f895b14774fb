//! Compression of one piece of state, bounded on both sides.
//!
//! LZ4, by `lz4_flex` without its unchecked paths: pure Rust without `unsafe` in what is compiled here, so that bytes of a peer meet no C and no
//! build needs a C compiler for it; it packs some hundred megabytes a second, so that a piece holds the node's thread up for a
//! fraction of a millisecond. Zstandard packs better and would do so at a third of that speed, through C. Each piece is packed by itself:
//! it is unpacked into a buffer whose size is known before, and a transfer goes on after an interruption where it was.

use bytes::Bytes;

/// Why a piece could not be unpacked: what arrived is not what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece that cannot be unpacked")]
pub struct Damaged;

/// A piece as it travels: whether it is compressed, and its bytes. One that would not become smaller stays as it is.
pub fn pack(raw: &Bytes) -> (bool, Bytes) {
    let packed = lz4_flex::block::compress(raw);
    if packed.len() < raw.len() { (true, packed.into()) } else { (false, raw.clone()) }
}

/// Appends a piece to `state`, which grows by `raw_bytes` and no more. The caller has bounded those.
///
/// # Errors
/// [`Damaged`]; `state` is as it was.
pub fn unpack(compressed: bool, raw_bytes: usize, data: &[u8], state: &mut Vec<u8>) -> Result<(), Damaged> {
    if !compressed {
        if data.len() != raw_bytes {
            return Err(Damaged);
        }
        state.extend_from_slice(data);
        return Ok(());
    }
    let before = state.len();
    state.resize(before + raw_bytes, 0);
    match lz4_flex::block::decompress_into(data, &mut state[before..]) {
        Ok(written) if written == raw_bytes => Ok(()),
        Ok(_) | Err(_) => {
            state.truncate(before);
            Err(Damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_compresses_badly_is_sent_as_it_is() {
        let noise: Vec<u8> = (0..1000_u32).flat_map(|n| blake3::hash(&n.to_be_bytes()).as_bytes().to_vec()).collect();
        let (compressed, packed) = pack(&noise.clone().into());
        assert!(!compressed && packed.len() == noise.len());
        let (compressed, packed) = pack(&vec![7; 65_536].into());
        assert!(compressed && packed.len() < 1000);
    }

    #[test]
    fn a_piece_that_would_grow_beyond_its_claim_adds_nothing() {
        let (compressed, packed) = pack(&vec![7; 65_536].into());
        for claim in [0, 1, 65_535, 65_537] {
            let mut state = vec![1, 2, 3];
            assert_eq!(unpack(compressed, claim, &packed, &mut state), Err(Damaged), "{claim}");
            assert_eq!(state, [1, 2, 3]);
        }
    }

    proptest! {
        #[test]
        fn pieces_come_back_and_garbage_does_no_harm(
            raw in proptest::collection::vec(0..4_u8, 0..5000),
            garbage in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let (compressed, packed) = pack(&raw.clone().into());
            let mut state = Vec::new();
            unpack(compressed, raw.len(), &packed, &mut state).unwrap();
            prop_assert_eq!(&state, &raw);
            let _ = unpack(true, 4096, &garbage, &mut state);
            prop_assert!(state.len() <= raw.len() + 4096);
        }
    }
}
