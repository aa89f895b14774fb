//! Where the control interface listens: a Unix socket of mode 0600, or, where there are none, a loopback port whose number and
//! token are in a private file. The only file of the control interface that knows an operating system.

use std::io;
use std::path::Path;

/// A listener for the control interface.
#[derive(Debug)]
pub(crate) struct ControlListener {
    /// What `actix-web` listens on.
    #[cfg(unix)]
    pub(crate) listener: std::os::unix::net::UnixListener,
    /// What `actix-web` listens on.
    #[cfg(not(unix))]
    pub(crate) listener: std::net::TcpListener,
    /// What every request has to show, where the file system does not keep others out.
    pub(crate) token: Option<String>,
}

/// A connection to a running node.
pub(crate) struct ControlStream {
    /// The bytes.
    #[cfg(unix)]
    pub(crate) stream: tokio::net::UnixStream,
    /// The bytes.
    #[cfg(not(unix))]
    pub(crate) stream: tokio::net::TcpStream,
    /// What every request has to show.
    pub(crate) token: Option<String>,
}

/// Listens at a path, replacing whatever is there: the caller has made sure that no node listens on it.
///
/// On Unix the socket is made in a folder that nobody else can enter and moved to its place with its final mode, so that there
/// is no moment in which others could connect.
///
/// # Errors
/// Those of the operating system; nothing is left behind.
#[cfg(unix)]
pub(crate) fn bind(path: &Path) -> io::Result<ControlListener> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let private = parent.join(format!(".bl{}", std::process::id()));
    match std::fs::remove_dir_all(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let made = private.join("s");
    let bound = std::os::unix::net::UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&made, path)?;
        Ok(ControlListener { listener, token: None })
    });
    // Empty, or holding a socket nobody can use: leaving it would be untidy, no more.
    let _ = std::fs::remove_dir_all(&private);
    bound
}

/// Connects to the node that listens at a path.
///
/// # Errors
/// Those of the operating system: `NotFound` or `ConnectionRefused` when none runs.
#[cfg(unix)]
pub(crate) async fn connect(path: &Path) -> io::Result<ControlStream> {
    Ok(ControlStream { stream: tokio::net::UnixStream::connect(path).await?, token: None })
}

/// Listens on a loopback port and writes its number and a token to a file at the path. The access list of the user's profile
/// keeps others from reading it.
///
/// # Errors
/// Those of the operating system.
#[cfg(not(unix))]
pub(crate) fn bind(path: &Path) -> io::Result<ControlListener> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut random = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| io::Error::other("no random numbers"))?;
    let token = format!("{:032x}", u128::from_be_bytes(random));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, format!("{} {token}\n", listener.local_addr()?.port()))?;
    Ok(ControlListener { listener, token: Some(token) })
}

/// Connects to the node whose port and token are in the file at the path.
///
/// # Errors
/// Those of the operating system: `NotFound` or `ConnectionRefused` when none runs.
#[cfg(not(unix))]
pub(crate) async fn connect(path: &Path) -> io::Result<ControlStream> {
    let text = std::fs::read_to_string(path)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a control file");
    let (port, token) = text.trim().split_once(' ').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    Ok(ControlStream { stream, token: Some(token.to_owned()) })
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/bowline.sock");
        drop(bind(&path).unwrap());
        assert_eq!(connect(&path).await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        let listening = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        connect(&path).await.unwrap();
        drop(listening);
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }
}
