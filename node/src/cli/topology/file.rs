//! A graph file, plain or compressed, read within bounds.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use bowline_actors::topology::EdgeList;
use petgraph::stable_graph::StableUnGraph;

use crate::exit::{Exit, Failure};

/// The longest text of a graph, uncompressed: 2²⁶ edges or so. A compressed file says nothing reliable about its length.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// How a gzip stream begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A graph from a file.
pub(super) struct Network {
    /// The name of the file, without its folder.
    pub(super) file: String,
    pub(super) list: EdgeList,
    pub(super) graph: StableUnGraph<(), ()>,
}

impl Network {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| Failure::at(path, &error, Exit::Usage);
        let refused = |reason: std::fmt::Arguments<'_>| {
            let failure = Failure::new(Exit::False, format_args!("{}: {reason}", path.display()));
            failure.hint("a graph is lines of two node numbers, plain or as gzip")
        };
        let mut reader = BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
        let compressed = reader.fill_buf().map_err(unreadable)?.starts_with(&GZIP);
        let mut bytes = Vec::new();
        if compressed {
            let text = flate2::bufread::MultiGzDecoder::new(reader).take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes);
            text.map_err(|error| refused(format_args!("not a whole gzip file: {error}")))?;
        } else {
            reader.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        if bytes.len() as u64 > TEXT_BYTES_MAX {
            return Err(refused(format_args!("longer than {TEXT_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| refused(format_args!("not text")))?;
        let list = EdgeList::parse(&text).map_err(|error| refused(format_args!("{error}")))?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { file, graph: list.graph(), list })
    }
}
