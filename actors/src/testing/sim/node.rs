//! One node of a simulation: its lives, its application, its transports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::Addr;
use bowline_messages::config::{RepairConfig, SessionConfig, TrustConfig, TrustPolicy};
use bowline_messages::{Incarnation, PeerId, TransportKind};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::app::{App, AppShared, Recorder, StopReading};
use super::process::Process;
use super::shape::LinkShape;
use super::{SimulationError, refused};
use crate::node::{Application, Inspector, NetworkConfig, NodeHandle, NodeParts, start};
use crate::session::handshake::Entropy;
use crate::session::identity::Identity;
use crate::session::seal::RotationLimits;
use crate::session::trust::Trust;
use crate::supervision::Context;
use crate::transport::Lane;
use crate::transport::memory::MemoryNetwork;
use crate::transport::mesh::{self, MeshTransport};
use crate::transport::registry::Registry;

/// The mailbox of an application, in hand-overs, unless said otherwise.
const APP_MAILBOX: usize = 64;
/// The mailbox of the recorder: a node does not report more than this in one moment.
const RECORDER_MAILBOX: usize = 1 << 16;

/// What an application does beyond collecting.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// Whether there is an application at all; without one messages wait.
    pub absent: bool,
    /// Hand-overs that its mailbox holds; `None` is 64.
    pub mailbox: Option<usize>,
    /// Looks at every message first; it may panic.
    pub inspector: Option<Inspector>,
}

/// What a node is like.
#[derive(Clone)]
pub struct NodeOptions {
    /// How its sessions behave.
    pub session: SessionConfig,
    /// When and how often it repairs something.
    pub repair: RepairConfig,
    /// When its links move on to new keys.
    pub rotation: RotationLimits,
    /// What it does about strangers. Default: lets everybody in.
    pub trust: TrustPolicy,
    /// Names of nodes that it refuses.
    pub denied: Vec<PeerId>,
    /// Names of nodes that it lets in whatever the policy.
    pub allowed: Vec<PeerId>,
    /// Its application.
    pub application: Behaviour,
    /// How it takes part in the network beyond its own sessions. Default: not at all.
    pub network: Option<NetworkConfig>,
    /// With whom it is in a group, itself included. Default: in none.
    pub group: Vec<PeerId>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            repair: RepairConfig::default(),
            rotation: RotationLimits::default(),
            trust: TrustPolicy::Open,
            denied: Vec::new(),
            allowed: Vec::new(),
            application: Behaviour::default(),
            network: None,
            group: Vec::new(),
        }
    }
}

/// The identity of the node with this name: the same in every simulation, so that logs can be compared.
pub(crate) fn identity_of(name: &str) -> Identity {
    let mut seed = [0; 32];
    for (at, byte) in name.bytes().enumerate() {
        seed[at % 32] ^= byte.rotate_left((at / 32) as u32 % 8);
    }
    seed[31] ^= 0x5a;
    Identity::from_seed(&seed)
}

/// One node.
pub(super) struct SimNode {
    name: String,
    options: NodeOptions,
    seed: u64,
    identity: Arc<Identity>,
    transports: BTreeMap<TransportKind, Lane>,
    shared: Rc<AppShared>,
    lives: u64,
    life: Option<Life>,
}

struct Life {
    process: Process,
    handle: NodeHandle,
    app: Option<Addr<App>>,
}

impl SimNode {
    pub(super) fn new(
        name: &str,
        options: NodeOptions,
        seed: u64,
        number: usize,
        log: &Rc<crate::testing::log::Log>,
    ) -> Self {
        Self {
            name: name.into(),
            options,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64),
            identity: Arc::new(identity_of(name)),
            transports: BTreeMap::new(),
            shared: AppShared::new(name, log),
            lives: 0,
            life: None,
        }
    }

    pub(super) fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub(super) fn is_running(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn has_transport(&self, kind: &TransportKind) -> bool {
        self.transports.contains_key(kind)
    }

    pub(super) fn add_transport(&mut self, kind: TransportKind, shape: &LinkShape) {
        self.transports.insert(kind, shape.lanes);
    }

    pub(super) fn kinds(&self) -> Vec<TransportKind> {
        self.transports.keys().cloned().collect()
    }

    pub(super) fn shared(&self) -> &Rc<AppShared> {
        &self.shared
    }

    pub(super) fn handle(&self) -> Option<NodeHandle> {
        self.life.as_ref().map(|life| life.handle.clone())
    }

    pub(super) fn process(&self) -> Option<Process> {
        self.life.as_ref().map(|life| life.process.clone())
    }

    pub(super) fn app(&self) -> Option<Addr<App>> {
        self.life.as_ref().and_then(|life| life.app.clone())
    }

    pub(super) fn start(&mut self, network: &MemoryNetwork) -> Result<NodeHandle, SimulationError> {
        self.lives += 1;
        let recorder = Context::run(RECORDER_MAILBOX, Recorder(Rc::clone(&self.shared)));
        let process = Process::spawn();
        let (handle, app) = process.enter(|| {
            let app = (!self.options.application.absent).then(|| {
                let mailbox = self.options.application.mailbox.unwrap_or(APP_MAILBOX);
                Context::run(mailbox, App(Rc::clone(&self.shared)))
            });
            let handle = start(self.parts(network, app.as_ref())).map_err(|error| refused(&self.name, error))?;
            handle.subscribe(recorder.recipient());
            Ok::<_, SimulationError>((handle, app))
        })?;
        self.life = Some(Life { process, handle: handle.clone(), app });
        if !self.shared.reading.get() {
            self.set_reading(false);
        }
        Ok(handle)
    }

    fn parts(&self, network: &MemoryNetwork, app: Option<&Addr<App>>) -> NodeParts {
        let options = self.options.clone();
        let mut registry = Registry::empty();
        for (kind, lanes) in &self.transports {
            let transport = network.transport(&self.name, kind).with_lanes(*lanes);
            registry.register(kind.as_str(), move |_| Ok(Rc::new(transport.clone())));
        }
        if options.network.is_some() {
            registry.register(mesh::SCHEME, |context| Ok(Rc::new(MeshTransport::new(context))));
        }
        let trust = TrustConfig { policy: options.trust, ..TrustConfig::default() };
        let trust = Trust::new(&trust, options.allowed, options.denied, Default::default());
        let seed = self.seed.wrapping_add(self.lives << 32);
        let random = RefCell::new(ChaCha12Rng::seed_from_u64(seed));
        let mut parts = NodeParts::new(Arc::clone(&self.identity), trust);
        parts.incarnation = Incarnation(self.lives);
        parts.session = options.session;
        parts.repair = options.repair;
        parts.rotation = options.rotation;
        parts.network = options.network;
        parts.group = (!options.group.is_empty()).then(|| super::group::setup(options.group, app));
        // That of the machine that simulates is nobody's here.
        parts.power = None;
        parts.registry = registry;
        parts.seed = seed;
        parts.entropy = Rc::new(move || Ok(Entropy::from_rng(&mut *random.borrow_mut())));
        parts.application = Application {
            inbox: app.map(|app| app.clone().recipient()),
            streams: app.map(|app| app.clone().recipient()),
            inspector: options.application.inspector,
        };
        parts
    }

    pub(super) fn set_reading(&mut self, reading: bool) {
        self.shared.reading.set(reading);
        if reading {
            self.shared.waiting.borrow_mut().drain(..).for_each(std::task::Waker::wake);
        } else if let Some(app) = self.app() {
            // An order of the test's, past the bound of the mailbox.
            app.do_send(StopReading);
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        if let Some(life) = &self.life {
            life.process.set_paused(paused);
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.process.kill();
        }
    }
}
