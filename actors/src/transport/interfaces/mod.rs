//! This machine's network interfaces: what they are made of, which one an address belongs to, and when one goes down.

mod medium;
mod monitor;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod state;
mod table;

pub use medium::medium_of;
pub use monitor::{AddressesChanged, InterfaceMonitor, InterfaceSubscribers, SubscribeInterfaces};
#[cfg(not(target_os = "linux"))]
pub(crate) use table::address_of;
pub use table::{InterfaceTable, reachable_addresses};
