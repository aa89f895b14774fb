//! Raw TCP and raw TLS 1.3 over loopback: what the figures of Bowline are divided by.
//!
//! `reference serve tcp|tls` prints one line, `{"ready":true,"address":"…","certificate":"…"}`, and answers the other calls,
//! which print one JSON object each with the same field names as `bowline bench`. Plain tokio on one thread, `TCP_NODELAY`,
//! rustls with its `ring` provider, its default suite, the server's certificate verified, no resumption.
#![allow(clippy::disallowed_methods, reason = "measures real time")]
#![allow(clippy::print_stdout, reason = "a command line program answers on its standard output")]

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline::cli::bench::measure::{self, Samples};
use clap::{Parser, Subcommand, ValueEnum};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Small messages are gathered into writes of this size, as any program that cares about speed does.
const WRITE_BYTES: usize = 64 * 1024;
/// What the receiver reads at once.
const READ_BYTES: usize = 256 * 1024;
/// First byte of a request: send the message back. The number that follows is the message size.
const ECHO: u8 = b'E';
/// First byte of a request: swallow as many bytes as the number says, then answer with the processor time that took.
const SWALLOW: u8 = b'S';
/// First byte of a request: answer with the resident memory.
const MEMORY: u8 = b'M';

#[derive(Parser)]
#[command(about = "Raw TCP and raw TLS as references for the benches")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers every other call.
    Serve {
        /// What to speak.
        kind: Kind,
    },
    /// Request and answer, one at a time.
    Rtt(Call),
    /// One-way messages as fast as they go.
    Messages(Call),
    /// From dialling to the first answer, again and again.
    Setup(Call),
    /// What an idle connection costs the server in memory.
    Idle(Call),
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Tcp,
    Tls,
}

#[derive(clap::Args)]
struct Call {
    /// Where the server listens.
    #[arg(long)]
    address: SocketAddr,
    /// The server's certificate as it printed it; speaks TLS when it is given.
    #[arg(long)]
    certificate: Option<String>,
    /// Bytes in a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many dials or connections.
    #[arg(long, default_value_t = 200)]
    count: usize,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let report = match Arguments::parse().command {
        Command::Serve { kind } => return serve(kind).await,
        Command::Rtt(call) => rtt(&call).await?,
        Command::Messages(call) => messages(&call).await?,
        Command::Setup(call) => setup(&call).await?,
        Command::Idle(call) => idle(&call).await?,
    };
    println!("{report}");
    Ok(())
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::other(error)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the certificate is not hexadecimal"))?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

// ---- the server ----

async fn serve(kind: Kind) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (acceptor, certificate) = match kind {
        Kind::Tcp => (None, None),
        Kind::Tls => {
            let (acceptor, certificate) = acceptor()?;
            (Some(acceptor), Some(hex(&certificate)))
        }
    };
    println!("{}", json!({"ready": true, "address": listener.local_addr()?, "certificate": certificate}));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        // What goes wrong on one connection is that client's to report; the server serves the next one.
        tokio::spawn(async move {
            match acceptor {
                None => answer(socket).await,
                Some(acceptor) => answer(acceptor.accept(socket).await?).await,
            }
        });
    }
}

fn acceptor() -> Result<(TlsAcceptor, CertificateDer<'static>)> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(other)?;
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key))
        .map_err(other)?;
    config.send_tls13_tickets = 0;
    Ok((TlsAcceptor::from(Arc::new(config)), certificate))
}

async fn answer(mut stream: impl Stream) -> Result<()> {
    loop {
        // Small, so that an idle connection holds no buffer of ours.
        let mut request = [0; 9];
        stream.read_exact(&mut request).await?;
        let [what, number @ ..] = request;
        let number = u64::from_be_bytes(number);
        match what {
            ECHO => return echo(stream, usize::try_from(number).map_err(other)?).await,
            SWALLOW => {
                let cpu = swallow(&mut stream, number).await?;
                stream.write_u64(u64::try_from(cpu.as_nanos()).map_err(other)?).await?;
            }
            MEMORY => stream.write_u64(measure::resident_bytes().unwrap_or(0)).await?,
            _ => return Err(Error::new(ErrorKind::InvalidData, "unknown request")),
        }
        stream.flush().await?;
    }
}

async fn echo(mut stream: impl Stream, size: usize) -> Result<()> {
    let mut message = vec![0; size.min(WRITE_BYTES)];
    loop {
        stream.read_exact(&mut message).await?;
        stream.write_all(&message).await?;
        stream.flush().await?;
    }
}

async fn swallow(stream: &mut impl Stream, mut bytes: u64) -> Result<Duration> {
    let mut buffer = vec![0; READ_BYTES];
    let before = measure::cpu_time().unwrap_or_default();
    while bytes > 0 {
        let want = usize::try_from(bytes).unwrap_or(READ_BYTES).min(READ_BYTES);
        let found = stream.read(&mut buffer[..want]).await?;
        if found == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes -= found as u64;
    }
    Ok(measure::cpu_time().unwrap_or_default() - before)
}

// ---- the client ----

/// A way to connect again and again without counting what is prepared once.
struct Dialer {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Dialer {
    fn new(call: &Call) -> Result<Self> {
        let tls = call.certificate.as_deref().map(connector).transpose()?;
        Ok(Self { address: call.address, tls })
    }

    async fn dial(&self) -> Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::try_from("localhost").map_err(other)?;
                Box::new(tls.connect(name, socket).await?)
            }
        })
    }
}

fn connector(certificate: &str) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(unhex(certificate)?)).map_err(other)?;
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn request(stream: &mut Box<dyn Stream>, what: u8, number: u64) -> Result<()> {
    let mut request = [what; 9];
    request[1..].copy_from_slice(&number.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await
}

async fn rtt(call: &Call) -> Result<Value> {
    let mut stream = Dialer::new(call)?.dial().await?;
    let mut message = vec![7; call.size.clamp(1, WRITE_BYTES)];
    request(&mut stream, ECHO, message.len() as u64).await?;
    let mut samples = Samples::default();
    let warm = Instant::now() + Duration::from_secs_f64(call.seconds / 5.0);
    let end = warm + Duration::from_secs_f64(call.seconds);
    loop {
        let start = Instant::now();
        if start > end {
            break;
        }
        stream.write_all(&message).await?;
        stream.flush().await?;
        stream.read_exact(&mut message).await?;
        if start > warm {
            samples.push(start.elapsed());
        }
    }
    let mut report = samples.report();
    report.insert("count".into(), samples.count().into());
    Ok(report.into())
}

async fn messages(call: &Call) -> Result<Value> {
    let mut stream = Dialer::new(call)?.dial().await?;
    // How many bytes fit into the time is found out first, so that the server knows where the run ends.
    let (probe, _, _) = send(&mut stream, call.size, Duration::from_secs_f64(call.seconds / 5.0), None).await?;
    let count = (probe as f64 * 5.0) as u64;
    let (messages, took, cpu) = send(&mut stream, call.size, Duration::MAX, Some(count.max(1))).await?;
    let (seconds, bytes) = (took.as_secs_f64(), messages as f64 * call.size as f64);
    Ok(json!({
        "messages": messages,
        "msgs_per_s": measure::rounded(messages as f64 / seconds),
        "mb_per_s": measure::rounded(bytes / 1e6 / seconds),
        "cpu_s_per_gb": measure::rounded(cpu.as_secs_f64() / (bytes / 1e9)),
        "cpu_s_per_m": measure::rounded(cpu.as_secs_f64() / (messages as f64 / 1e6)),
    }))
}

/// Sends messages for a time or up to a number of them; gives back how many, how long until the server had the last one, and the processor
/// time of both sides.
async fn send(
    stream: &mut Box<dyn Stream>,
    size: usize,
    time: Duration,
    count: Option<u64>,
) -> Result<(u64, Duration, Duration)> {
    // Without a count the run is cut into requests of some megabytes each.
    let part = count.unwrap_or_else(|| (16 << 20) / size.max(1) as u64 + 1);
    let message = vec![7; size];
    let start = Instant::now();
    let mut sent = 0;
    let mut cpu = Duration::ZERO;
    while sent == 0 || (count.is_none() && start.elapsed() < time) {
        let before = measure::cpu_time().unwrap_or_default();
        request(stream, SWALLOW, part * size as u64).await?;
        if size >= WRITE_BYTES / 4 {
            for _ in 0..part {
                stream.write_all(&message).await?;
            }
        } else {
            gathered(stream, &message, part).await?;
        }
        stream.flush().await?;
        let served = Duration::from_nanos(stream.read_u64().await?);
        cpu += served + (measure::cpu_time().unwrap_or_default() - before);
        sent += part;
    }
    Ok((sent, start.elapsed(), cpu))
}

/// Copies every message into a buffer that is written whenever it is full.
async fn gathered(stream: &mut Box<dyn Stream>, message: &[u8], count: u64) -> Result<()> {
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    for _ in 0..count {
        if buffer.len() + message.len() > WRITE_BYTES {
            stream.write_all(&buffer).await?;
            buffer.clear();
        }
        buffer.extend_from_slice(message);
    }
    stream.write_all(&buffer).await
}

async fn setup(call: &Call) -> Result<Value> {
    let dialer = Dialer::new(call)?;
    let mut samples = Samples::default();
    let mut message = vec![7; call.size.clamp(1, WRITE_BYTES)];
    for at in 0..call.count + 10 {
        let start = Instant::now();
        let mut stream = dialer.dial().await?;
        request(&mut stream, ECHO, message.len() as u64).await?;
        stream.write_all(&message).await?;
        stream.flush().await?;
        stream.read_exact(&mut message).await?;
        // The first ones warm both programs up.
        if at >= 10 {
            samples.push(start.elapsed());
        }
    }
    let mut report = samples.report();
    report.insert("count".into(), samples.count().into());
    Ok(report.into())
}

async fn idle(call: &Call) -> Result<Value> {
    let dialer = Dialer::new(call)?;
    let mut asking = dialer.dial().await?;
    // The first connections pay for what is set up once; they stay open, like all others.
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(dialer.dial().await?);
    }
    let before = resident(&mut asking).await?;
    for _ in 0..call.count {
        open.push(dialer.dial().await?);
    }
    // An answer on the last one: the server has accepted them all.
    if let Some(last) = open.last_mut() {
        resident(last).await?;
    }
    let after = resident(&mut asking).await?;
    let per_peer = (after as f64 - before as f64) / call.count as f64 / 1024.0;
    Ok(json!({"count": call.count, "kib_per_peer": measure::rounded(per_peer)}))
}

async fn resident(stream: &mut Box<dyn Stream>) -> Result<u64> {
    request(stream, MEMORY, 0).await?;
    stream.read_u64().await
}
