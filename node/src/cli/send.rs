//! `bowline send`.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hyper::Method;
use indicatif::ProgressBar;

use super::peer::ToArgs;
use super::progress;
use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::Sent;
use crate::exit::{Exit, Failure};

/// Bytes read from the file at a time.
const READ_BYTES: usize = 256 * 1024;

/// Send a file to a peer that receives; `-` is the standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
    peer: String,
    /// The file
    file: PathBuf,
    /// What it is to be called over there [default: its name here, or `stdin`]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    to: ToArgs,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let (name, bytes) = describe(&args)?;
    let asked = args.to.asked(&args.peer, global);
    let peer = serde_json::to_string(&asked).map_err(|error| Failure::new(Exit::GaveUp, error))?;
    let size = bytes.map(|bytes| bytes.to_string());
    let mut fields = vec![("peer", peer.as_str()), ("name", &name)];
    fields.extend(size.as_deref().map(|size| ("bytes", size)));
    let path = format!("/v1/send?{}", super::query(&fields));
    let bar = progress::bar(global.output().draws(), &name, bytes);
    let sent: Sent = global.block_on(async {
        let client = global.client().await?;
        let content = Content::Bytes(read(args.file, bar.clone())?);
        client.upload(Method::POST, &path, content).await
    })?;
    bar.finish_and_clear();
    global.output().result("send", &sent, || {
        let rate = (sent.bytes as f64 / (sent.took_us.max(1) as f64 / 1e6)) as u64;
        let size = human::bytes(sent.bytes);
        let took = human::micros(sent.took_us);
        format!(
            "sent {} to {}: {size} in {took}, {}/s",
            human::harmless(&sent.name),
            sent.peer.short(),
            human::bytes(rate)
        )
    })?;
    Ok(Exit::Ok)
}

/// The name and the size of what is sent.
fn describe(args: &Args) -> Result<(String, Option<u64>), Failure> {
    if args.file.as_os_str() == "-" {
        return Ok((args.name.clone().unwrap_or_else(|| "stdin".into()), None));
    }
    let metadata = std::fs::metadata(&args.file).map_err(|error| Failure::at(&args.file, &error, Exit::False))?;
    if metadata.is_dir() {
        return Err(Failure::new(Exit::Usage, format_args!("{} is a folder", args.file.display()))
            .hint("pack it, as in `tar c FOLDER | bowline send PEER - --name FOLDER.tar`"));
    }
    let own = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((args.name.clone().unwrap_or(own), metadata.is_file().then_some(metadata.len())))
}

/// The content, read by a thread of its own a little ahead of the node.
fn read(path: PathBuf, bar: ProgressBar) -> Result<BoxStream<'static, io::Result<Bytes>>, Failure> {
    let mut source: Box<dyn io::Read + Send> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(&path).map_err(|error| Failure::at(&path, &error, Exit::False))?)
    };
    let (blocks, receiver) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        loop {
            let mut block = vec![0; READ_BYTES];
            let read = match source.read(&mut block) {
                Ok(0) => return,
                Ok(read) => {
                    block.truncate(read);
                    Ok(Bytes::from(block))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            // Nobody waits for the rest once the node has answered.
            if blocks.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let stream =
        futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(stream.inspect(move |block| bar.inc(block.as_ref().map_or(0, |block| block.len() as u64))).boxed())
}
