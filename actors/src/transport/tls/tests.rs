//! Certificates of an authority instead of the identity's own, over real sockets.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::link::Binding;
use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::TlsTransport;
use crate::session::identity::Identity;
use crate::transport::registry::TransportContext;
use crate::transport::{DialOptions, Transport, TransportError};

fn pem(folder: &Path, name: &str, label: &str, der: &[u8]) -> PathBuf {
    let lines: Vec<String> =
        BASE64.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let path = folder.join(name);
    std::fs::write(&path, format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))).unwrap();
    path
}

/// Files of an authority and of a certificate that it gave to `localhost`: the authority's, the chain, its key.
fn authority(folder: &Path) -> [PathBuf; 3] {
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(params, root_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [
        pem(folder, "root.pem", "CERTIFICATE", root.der()),
        pem(folder, "chain.pem", "CERTIFICATE", leaf.der()),
        pem(folder, "key.pem", "PRIVATE KEY", &key.serialize_der()),
    ]
}

fn context(seed: u8) -> TransportContext {
    TransportContext::new(Arc::new(Identity::from_seed(&[seed; 32])))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[actix::test]
async fn a_certificate_of_an_authority_is_accepted_by_those_who_trust_it_and_for_its_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let [root, chain, key] = authority(folder.path());
    let mut server = context(1);
    (server.config.tls.certificate_file, server.config.tls.key_file) = (text(&chain), text(&key));
    let mut listener = TlsTransport::new(&server).unwrap().listen(&"tls://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.addresses()[0].port().unwrap();
    actix_rt::spawn(async move {
        let mut links = Vec::new();
        while let Ok(incoming) = poll_fn(|cx| listener.poll_accept(cx)).await {
            links.extend(incoming.accept().await);
        }
    });
    let mut trusting = context(2);
    trusting.config.tls.roots_file = text(&root);
    // A node that trusts no authority does not even offer to check such a certificate.
    let is_name = |error: &TransportError| matches!(error, TransportError::Authentication(_));
    let is_any = |error: &TransportError| matches!(error, TransportError::Protocol { .. });
    type Refused<'a> = Option<&'a dyn Fn(&TransportError) -> bool>;
    let stranger = context(3);
    let cases: [(&TransportContext, &str, Refused<'_>); 3] = [
        (&trusting, "localhost", None),
        (&trusting, "127.0.0.1", Some(&is_name)),
        (&stranger, "localhost", Some(&is_any)),
    ];
    for (dialler, host, refused) in cases {
        let options = DialOptions {
            // Nobody's key: only the authority vouches for the server here.
            expect: PeerId::from_bytes([9; 32]),
            binding: Binding::Any,
            timeout: Duration::from_secs(10),
        };
        let address = format!("tls://{host}:{port}").parse().unwrap();
        let dialled = TlsTransport::new(dialler).unwrap().dial(&address, options).await;
        match dialled {
            Ok(_) => assert!(refused.is_none(), "{host} was accepted"),
            Err(error) => assert!(refused.is_some_and(|expected| expected(&error)), "{host}: {error}"),
        }
    }
}
