#![allow(clippy::unwrap_used)]
//! Real sockets. "Silent" is shown by an answer that does not come within a short while and does come once the path is open
//! again; no test says how fast anything is, only how slow it is made.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Long enough for anything on this machine; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(20);
/// How long silence is listened to.
const SHORT: Duration = Duration::from_millis(60);

/// A server that sends back whatever it gets, on every connection.
async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

async fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..bytes], from).await;
        }
    });
    address
}

async fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
}

async fn hear(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    timeout(LONG, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    heard
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SHORT, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_connection_passes_both_ways_and_its_end_is_handed_on() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = stream.split();
    let mut received = Vec::new();
    let (written, heard) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut received)
    );
    assert!(written.is_ok() && heard.is_ok());
    assert_eq!(received, sent);
    assert_eq!((path.bytes(Direction::Forth), path.bytes(Direction::Back)), (300_000, 300_000));
}

#[tokio::test]
async fn a_black_hole_is_silent_keeps_the_connection_and_loses_nothing_of_it() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    say(&mut stream, b"before").await;
    assert_eq!(hear(&mut stream, 6).await, b"before");

    path.set(Conditions::black_hole());
    say(&mut stream, b"into the hole").await;
    assert!(is_silent(&mut stream).await);
    assert_eq!(path.connections(), 1);

    path.set(Conditions::default());
    assert_eq!(hear(&mut stream, 13).await, b"into the hole");
}

#[tokio::test]
async fn a_connection_made_during_a_black_hole_waits_for_its_end() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    path.set(Conditions::black_hole());
    let mut stream = timeout(LONG, TcpStream::connect(path.address())).await.unwrap().unwrap();
    say(&mut stream, b"hello").await;
    assert!(is_silent(&mut stream).await);
    assert_eq!(path.connections(), 0);
    path.set(Conditions::default());
    assert_eq!(hear(&mut stream, 5).await, b"hello");
}

#[tokio::test]
async fn one_way_silence_leaves_the_other_way_open() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    say(&mut stream, b"x").await;
    hear(&mut stream, 1).await;

    path.set(Conditions { silent_back: true, ..Conditions::default() });
    say(&mut stream, b"four").await;
    assert!(is_silent(&mut stream).await);
    assert_eq!((path.bytes(Direction::Forth), path.bytes(Direction::Back)), (5, 1));

    path.set(Conditions { silent_forth: true, ..Conditions::default() });
    assert_eq!(hear(&mut stream, 4).await, b"four");
    say(&mut stream, b"y").await;
    assert!(is_silent(&mut stream).await);
    assert_eq!(path.bytes(Direction::Forth), 5);
}

#[tokio::test]
async fn a_reset_reaches_the_client_as_one() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    say(&mut stream, b"x").await;
    hear(&mut stream, 1).await;
    path.reset();
    let ended = timeout(LONG, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    // The path itself goes on.
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    say(&mut stream, b"y").await;
    assert_eq!(hear(&mut stream, 1).await, b"y");
}

#[tokio::test]
async fn a_closed_listener_refuses_and_old_connections_live_on() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let mut old = TcpStream::connect(path.address()).await.unwrap();
    say(&mut old, b"x").await;
    hear(&mut old, 1).await;

    path.set(Conditions { closed: true, ..Conditions::default() });
    timeout(LONG, async { while TcpStream::connect(path.address()).await.is_ok() {} }).await.unwrap();
    say(&mut old, b"still").await;
    assert_eq!(hear(&mut old, 5).await, b"still");

    path.set(Conditions::default());
    timeout(LONG, async { while TcpStream::connect(path.address()).await.is_err() {} }).await.unwrap();
}

#[tokio::test]
async fn a_target_that_refuses_resets_the_client() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let path = Path::open(PathKind::Tcp, nobody, None).unwrap();
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    assert!(timeout(LONG, stream.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn latency_and_rate_make_it_slow() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, Some(32 * 1024)).unwrap();
    path.set(Conditions { latency: Duration::from_millis(20), ..Conditions::default() });
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    let start = Instant::now();
    say(&mut stream, b"x").await;
    hear(&mut stream, 1).await;
    assert!(start.elapsed() >= Duration::from_millis(40), "there and back");

    path.set(Conditions { bytes_per_second: Some(1_000_000), ..Conditions::default() });
    let start = Instant::now();
    say(&mut stream, &[0; 50_000]).await;
    hear(&mut stream, 50_000).await;
    assert!(start.elapsed() >= Duration::from_millis(50), "50 kB at 1 MB/s");
}

#[tokio::test]
async fn a_path_that_drops_large_writes_passes_small_ones_until_a_large_one_comes() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    path.set(Conditions { largest_bytes: Some(1000), ..Conditions::default() });
    let mut stream = TcpStream::connect(path.address()).await.unwrap();
    say(&mut stream, b"small").await;
    assert_eq!(hear(&mut stream, 5).await, b"small");
    say(&mut stream, &[1; 5000]).await;
    say(&mut stream, b"behind it").await;
    assert!(is_silent(&mut stream).await);
    path.set(Conditions::default());
    assert_eq!(hear(&mut stream, 5009).await[5000..], *b"behind it");
}

#[tokio::test]
async fn dropping_the_path_ends_everything() {
    let path = Path::open(PathKind::Tcp, tcp_echo().await, None).unwrap();
    let address = path.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, b"x").await;
    hear(&mut stream, 1).await;
    drop(path);
    assert!(!matches!(timeout(LONG, stream.read(&mut [0; 1])).await.unwrap(), Ok(1..)));
    timeout(LONG, async { while TcpStream::connect(address).await.is_ok() {} }).await.unwrap();
}

/// A client's socket whose answers can be awaited.
async fn udp_client(path: &Path) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(path.address()).await.unwrap();
    socket
}

async fn answer(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let bytes = timeout(within, socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(buffer[..bytes].to_vec())
}

#[tokio::test]
async fn datagrams_pass_and_are_lost_in_a_black_hole() {
    let path = Path::open(PathKind::Udp, udp_echo().await, None).unwrap();
    let socket = udp_client(&path).await;
    socket.send(b"one").await.unwrap();
    assert_eq!(answer(&socket, LONG).await.unwrap(), b"one");

    for silent in [
        Conditions::black_hole(),
        Conditions { silent_forth: true, ..Conditions::default() },
        Conditions { silent_back: true, ..Conditions::default() },
    ] {
        path.set(silent);
        socket.send(b"lost").await.unwrap();
        assert_eq!(answer(&socket, SHORT).await, None);
    }
    path.set(Conditions::default());
    socket.send(b"two").await.unwrap();
    assert_eq!(answer(&socket, LONG).await.unwrap(), b"two");
    assert_eq!(path.connections(), 1);
}

#[tokio::test]
async fn large_datagrams_are_dropped_and_small_ones_pass() {
    let path = Path::open(PathKind::Udp, udp_echo().await, None).unwrap();
    path.set(Conditions { largest_bytes: Some(100), ..Conditions::default() });
    let socket = udp_client(&path).await;
    socket.send(&[0; 101]).await.unwrap();
    socket.send(&[0; 100]).await.unwrap();
    assert_eq!(answer(&socket, LONG).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_reset_or_a_closed_port_forgets_the_flows_of_datagrams() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let path = Path::open(PathKind::Udp, target.local_addr().unwrap(), None).unwrap();
    let socket = udp_client(&path).await;
    let mut buffer = [0; 16];
    socket.send(b"a").await.unwrap();
    let (_, first) = timeout(LONG, target.recv_from(&mut buffer)).await.unwrap().unwrap();
    path.reset();
    let second = loop {
        socket.send(b"b").await.unwrap();
        let (_, from) = timeout(LONG, target.recv_from(&mut buffer)).await.unwrap().unwrap();
        if from != first {
            break from;
        }
    };
    assert_ne!(first, second);

    path.set(Conditions { closed: true, ..Conditions::default() });
    timeout(LONG, async {
        while path.connections() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
    path.set(Conditions::default());
    timeout(LONG, async {
        loop {
            // The closed port may have been reported to this socket: that is one error, not its end.
            let _ = socket.send(b"c").await;
            if let Ok(Ok(_)) = timeout(SHORT, target.recv_from(&mut buffer)).await {
                break;
            }
        }
    })
    .await
    .unwrap();
}
