//! A test in a network namespace of its own: the test program starts itself again inside one. Needs root and `unshare`; says so
//! otherwise.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;

const INSIDE: &str = "BOWLINE_TEST_IN_NAMESPACE";

/// Runs `inside` in a namespace; `name` is that of the test.
pub(crate) fn run(name: &str, inside: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        return actix::System::new().block_on(inside);
    }
    if !Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: a network namespace needs root and unshare");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("-n").arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success());
}

/// Changes something about the namespace's network.
pub(crate) fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}
