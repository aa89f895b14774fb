//! `bowline demo`: two real nodes on real sockets whose links die all the time, and a report of what that did.

pub mod forwarder;
