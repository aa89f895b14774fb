//! What a node shows and what it believes: its own certificate, and the configurations of TLS made from it.

use std::path::Path;
use std::sync::Arc;

use bowline_messages::config::TlsConfig;
use bowline_messages::{EndpointAddress, PeerId};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::verify::{NamedOrPinned, PinnedServer, SelfSignedClient};
use crate::session::identity::Identity;
use crate::transport::TransportError;

/// Sessions that can be resumed, on either side. Small: a session saves one signature check, and is worth little memory.
const SESSIONS: usize = 256;

/// The certificate of a node and the TLS configurations made with it.
pub(crate) struct Credentials {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// The authorities that are trusted on dials, when there are any.
    roots: Option<Arc<WebPkiServerVerifier>>,
}

struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// From the identity and the configuration; `alpn` are the protocol names, best first.
    ///
    /// # Errors
    /// When the files of the configuration cannot be read or do not fit together.
    pub(crate) fn new(identity: &Identity, config: &TlsConfig, alpn: &[&[u8]]) -> Result<Self, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let own = self_signed(identity)?;
        let shown = match config.certificate_file.as_str() {
            "" => self_signed(identity)?,
            file => read_certificate(Path::new(file), Path::new(&config.key_file))?,
        };
        let roots = match config.roots_file.as_str() {
            "" => None,
            file => Some(read_roots(Path::new(file), &provider)?),
        };
        Ok(Self {
            server: Arc::new(server_config(&provider, shown, alpn.clone())?),
            client: Arc::new(client_config(&provider, own, alpn)?),
            roots,
        })
    }

    /// For connections that arrive.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a dial: with the name to call the other side.
    ///
    /// # Errors
    /// [`TransportError::Address`] when authorities are to be asked about a host that is no name.
    pub(crate) fn client(
        &self,
        expect: &PeerId,
        address: &EndpointAddress,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TransportError> {
        let Some(roots) = &self.roots else { return Ok((Arc::clone(&self.client), super::name_of(expect)?)) };
        let name = ServerName::try_from(address.host().to_owned())
            .map_err(|error| crate::transport::socket::bad_address(address, &error.to_string()))?;
        let mut config = ClientConfig::clone(&self.client);
        config.dangerous().set_certificate_verifier(Arc::new(NamedOrPinned::new(*expect, Arc::clone(roots))));
        // Sessions are kept by name, and behind one name there may be other peers tomorrow.
        config.resumption = Resumption::disabled();
        config.enable_sni = true;
        Ok((Arc::new(config), name))
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: Certificate,
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, TransportError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .with_client_cert_verifier(Arc::new(SelfSignedClient::new(provider)))
        .with_single_cert(certificate.chain, certificate.key)
        .map_err(broken)?;
    config.alpn_protocols = alpn;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    certificate: Certificate,
    alpn: Vec<Vec<u8>>,
) -> Result<ClientConfig, TransportError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedServer::new(provider)))
        .with_client_auth_cert(certificate.chain, certificate.key)
        .map_err(broken)?;
    config.alpn_protocols = alpn;
    // The name is made up from the peer id, which is nobody else's business.
    config.enable_sni = false;
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS)));
    Ok(config)
}

fn self_signed(identity: &Identity) -> Result<Certificate, TransportError> {
    let key = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(broken)?;
    let parameters = CertificateParams::new(vec!["bowline".to_owned()]).map_err(broken)?;
    let certificate = parameters.self_signed(&pair).map_err(broken)?;
    Ok(Certificate { chain: vec![certificate.der().clone()], key: key.into() })
}

fn read_certificate(chain: &Path, key: &Path) -> Result<Certificate, TransportError> {
    let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
    let key_read = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    Ok(Certificate { chain: certificates.map_err(|error| unreadable(chain, &error))?, key: key_read })
}

fn read_roots(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TransportError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, &error))? {
        roots.add(root.map_err(|error| unreadable(file, &error))?).map_err(broken)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().map_err(broken)
}

fn unreadable(file: &Path, error: &rustls::pki_types::pem::Error) -> TransportError {
    broken(format!("{}: {error}", file.display()))
}

/// Certificates that cannot be used: the configuration's mistake.
fn broken(error: impl std::fmt::Display) -> TransportError {
    TransportError::Authentication(error.to_string())
}
