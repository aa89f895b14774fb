//! Addresses that do not answer, over real sockets.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::link::Binding;
use futures_util::future::{Either, select};

use super::QuicTransport;
use crate::session::identity::Identity;
use crate::transport::registry::TransportContext;
use crate::transport::{DialOptions, Transport};

fn transport(seed: u8) -> QuicTransport {
    QuicTransport::new(&TransportContext::new(Arc::new(Identity::from_seed(&[seed; 32])))).unwrap()
}

/// Whether a datagram asks its receiver to prove its address (RFC 9000 §17.2.5).
fn is_retry(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xb0 == 0xb0)
}

#[actix::test]
async fn an_address_that_has_not_answered_is_no_connection_that_counts() {
    let mut listener = transport(1).listen(&"quic://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let to = ("127.0.0.1", listener.addresses()[0].port().unwrap());
    // Somebody writes the first packet of a connection, from an address at which nobody reads the answer.
    let (front, back) = (tokio::net::UdpSocket::bind("127.0.0.1:0"), tokio::net::UdpSocket::bind("127.0.0.1:0"));
    let (front, back) = (front.await.unwrap(), back.await.unwrap());
    let address = format!("quic://{}", front.local_addr().unwrap()).parse().unwrap();
    actix_rt::spawn(async move {
        let expect = PeerId::from_bytes([9; 32]);
        let options = DialOptions { expect, binding: Binding::Any, timeout: Duration::from_secs(60) };
        transport(2).dial(&address, options).await.map(drop)
    });
    let mut packet = [0; 2048];
    let (length, client) = front.recv_from(&mut packet).await.unwrap();
    back.send_to(&packet[..length], to).await.unwrap();
    let answer = {
        let accepted = pin!(poll_fn(|cx| listener.poll_accept(cx)));
        let answered = pin!(async {
            let mut answer = vec![0; 2048];
            let length = back.recv(&mut answer).await.unwrap();
            answer.truncate(length);
            answer
        });
        match select(accepted, answered).await {
            Either::Left(_) => panic!("it was handed over before its address answered"),
            Either::Right((answer, _)) => answer,
        }
    };
    assert!(is_retry(&answer), "{:#x}", answer[0]);
    // Once it is told what it was asked, and says it again, it is one.
    front.send_to(&answer, client).await.unwrap();
    let forward = pin!(async {
        loop {
            let length = front.recv(&mut packet).await.unwrap();
            back.send_to(&packet[..length], to).await.unwrap();
        }
    });
    match select(pin!(poll_fn(|cx| listener.poll_accept(cx))), forward).await {
        Either::Left((accepted, _)) => assert!(accepted.unwrap().source().unwrap().is_loopback()),
        Either::Right(((), _)) => unreachable!("it forwards for ever"),
    };
}
