//! Tells subscribers at once when an interface comes or goes, from the operating system's own events.
//!
//! Permanent child of the node. A restart opens the event source again; the subscribers are kept by the factory. Where the
//! source cannot be opened or breaks, it is tried again after a while, and what has changed in the meantime is reported then.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use actix::{Actor, Handler, Message, Recipient};
use bowline_messages::link::InterfaceChanged;

use super::InterfaceTable;
use crate::supervision::Context;

/// The addresses of this machine may be others than before. From the monitor to who subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct AddressesChanged;

/// Who is told; shared by all lives of the monitor.
#[derive(Clone, Default)]
pub struct InterfaceSubscribers(Rc<RefCell<Lists>>);

#[derive(Default)]
struct Lists {
    interfaces: Vec<Recipient<InterfaceChanged>>,
    addresses: Vec<Recipient<AddressesChanged>>,
}

impl fmt::Debug for InterfaceSubscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = self.0.borrow();
        write!(f, "InterfaceSubscribers({}, {})", lists.interfaces.len(), lists.addresses.len())
    }
}

impl InterfaceSubscribers {
    /// Adds one that is told of interfaces that come and go.
    pub fn add(&self, subscriber: Recipient<InterfaceChanged>) {
        self.0.borrow_mut().interfaces.push(subscriber);
    }

    /// Adds one that is told of every change of interfaces or their addresses, without which.
    pub fn add_to_addresses(&self, subscriber: Recipient<AddressesChanged>) {
        self.0.borrow_mut().addresses.push(subscriber);
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    fn tell_addresses(&self) {
        let mut lists = self.0.borrow_mut();
        lists.addresses.retain(Recipient::connected);
        for subscriber in &lists.addresses {
            // As seldom as below: once for each datagram of the operating system's.
            subscriber.do_send(AddressesChanged);
        }
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    fn tell(&self, change: &InterfaceChanged) {
        let mut lists = self.0.borrow_mut();
        lists.interfaces.retain(Recipient::connected);
        for subscriber in &lists.interfaces {
            // Interfaces change seldom, and a change that is lost would cost a time-out: sent past the mailbox's bound.
            subscriber.do_send(change.clone());
        }
    }
}

/// Asks the monitor to tell somebody of every change from now on. From any actor to the monitor.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SubscribeInterfaces(pub Recipient<InterfaceChanged>);

/// Watches the interfaces of this machine.
#[derive(Debug)]
pub struct InterfaceMonitor {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    table: InterfaceTable,
    subscribers: InterfaceSubscribers,
    /// What was known when the event source broke.
    #[cfg(target_os = "linux")]
    before: Option<super::state::Interfaces>,
}

impl InterfaceMonitor {
    /// A monitor that keeps the table fresh and tells the subscribers.
    pub fn new(table: InterfaceTable, subscribers: InterfaceSubscribers) -> Self {
        Self {
            table,
            subscribers,
            #[cfg(target_os = "linux")]
            before: None,
        }
    }
}

impl Actor for InterfaceMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        watch::start(self, ctx);
    }
}

impl Handler<SubscribeInterfaces> for InterfaceMonitor {
    type Result = ();

    fn handle(&mut self, SubscribeInterfaces(subscriber): SubscribeInterfaces, _: &mut Self::Context) {
        self.subscribers.add(subscriber);
    }
}

#[cfg(target_os = "linux")]
mod watch {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context as TaskContext, Poll};
    use std::time::Duration;

    use actix::{ActorFuture, AsyncContext};
    use netlink_sys::protocols::NETLINK_ROUTE;
    use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};

    use bowline_messages::link::InterfaceChanged;

    use super::InterfaceMonitor;
    use crate::supervision::Context;
    use crate::transport::interfaces::netlink::{self, Report};
    use crate::transport::interfaces::state::Interfaces;

    /// After this long a source that broke is opened again.
    const REOPEN_AFTER: Duration = Duration::from_secs(1);

    /// Where the first look at all interfaces has got to; what it finds is no change.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Phase {
        Links,
        Addresses,
        Watching,
    }

    struct Watch {
        socket: TokioSocket,
        interfaces: Interfaces,
        phase: Phase,
    }

    /// Opens the event source.
    pub(super) fn start(_: &mut InterfaceMonitor, ctx: &mut Context<InterfaceMonitor>) {
        match open() {
            Ok(socket) => {
                ctx.spawn(Watch { socket, interfaces: Interfaces::default(), phase: Phase::Links });
            }
            Err(error) => again(&error, ctx),
        }
    }

    fn again(error: &io::Error, ctx: &mut Context<InterfaceMonitor>) {
        tracing::warn!(%error, "cannot watch the network interfaces, trying again");
        ctx.run_later(REOPEN_AFTER, start);
    }

    fn open() -> io::Result<TokioSocket> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, netlink::GROUPS))?;
        // Events wait in the socket while this is answered, so nothing is missed in between.
        socket.socket_ref().send_to(&netlink::list_links(), &SocketAddr::new(0, 0), 0)?;
        Ok(socket)
    }

    fn tell(monitor: &InterfaceMonitor, change: &InterfaceChanged) {
        tracing::info!(interface = %change.name, up = change.up, "a network interface changed");
        monitor.subscribers.tell(change);
    }

    impl Watch {
        fn on_datagram(&mut self, datagram: &[u8], monitor: &mut InterfaceMonitor) -> io::Result<()> {
            let mut moved = false;
            for report in netlink::parse(datagram) {
                if report == Report::Done {
                    self.next_phase(monitor)?;
                    continue;
                }
                let change = self.interfaces.on_report(report);
                // Whatever it was: an address may belong to another interface now.
                monitor.table.forget();
                let watching = self.phase == Phase::Watching;
                moved |= watching;
                if let Some(change) = change.filter(|_| watching) {
                    tell(monitor, &change);
                }
            }
            if moved {
                monitor.subscribers.tell_addresses();
            }
            Ok(())
        }

        fn next_phase(&mut self, monitor: &mut InterfaceMonitor) -> io::Result<()> {
            self.phase = match self.phase {
                Phase::Links => {
                    let request = netlink::list_addresses();
                    self.socket.socket_ref().send_to(&request, &SocketAddr::new(0, 0), 0)?;
                    Phase::Addresses
                }
                Phase::Addresses | Phase::Watching => {
                    // What happened before the first look, or between two of them, nobody has told.
                    monitor.subscribers.tell_addresses();
                    let before = monitor.before.take();
                    for change in before.map_or_else(Vec::new, |before| self.interfaces.since(&before)) {
                        tell(monitor, &change);
                    }
                    Phase::Watching
                }
            };
            Ok(())
        }
    }

    impl ActorFuture<InterfaceMonitor> for Watch {
        type Output = ();

        fn poll(
            mut self: Pin<&mut Self>,
            monitor: &mut InterfaceMonitor,
            ctx: &mut Context<InterfaceMonitor>,
            cx: &mut TaskContext<'_>,
        ) -> Poll<()> {
            loop {
                let read = match self.socket.poll_recv_from_full(cx) {
                    Poll::Ready(read) => read,
                    Poll::Pending => return Poll::Pending,
                };
                // Events that the system had to drop end the watch as well: the new one looks at everything again.
                let done = read.and_then(|(datagram, _)| self.on_datagram(&datagram, monitor));
                if let Err(error) = done {
                    if self.phase == Phase::Watching {
                        monitor.before = Some(std::mem::take(&mut self.interfaces));
                    }
                    again(&error, ctx);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// Other systems have event sources of their own, none of which is used yet: there, a link over an interface that went down is
/// found dead by its session, as fast as any silent link.
#[cfg(not(target_os = "linux"))]
mod watch {
    use super::InterfaceMonitor;
    use crate::supervision::Context;

    pub(super) fn start(_: &mut InterfaceMonitor, _: &mut Context<InterfaceMonitor>) {}
}
