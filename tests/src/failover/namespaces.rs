//! Two network namespaces with two virtual cables between them, and what can happen to a cable. Needs root and `ip`.
//!
//! A cable goes *silently* dead by a wrong hardware address in both neighbour tables: every frame leaves, none is for the other
//! end, and nobody is told anything. That needs neither netfilter nor netem, which not every kernel has.

use std::path::Path;
use std::process::Command;

use crate::programs::{ip, is_at_hand, system};

/// A hardware address that no end has.
const NOBODY: &str = "02:00:00:00:00:99";

/// One of the two cables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cable(pub usize);

impl Cable {
    /// Both.
    pub const BOTH: [Self; 2] = [Self(1), Self(2)];

    /// The IP address of its near end, where the sender is.
    pub fn near(self) -> String {
        format!("10.77.{}.1", self.0)
    }

    /// The IP address of its far end, where the receiver is.
    pub fn far(self) -> String {
        format!("10.77.{}.2", self.0)
    }

    /// The cable that an endpoint address belongs to.
    pub fn of(address: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|cable| address.contains(&format!("10.77.{}.", cable.0)))
    }

    fn interface(self, end: &str) -> String {
        format!("{end}{}", self.0)
    }
}

/// Why there is no laboratory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoLaboratory {
    /// It takes root, or a container that may make network namespaces. Tests skip it.
    #[error("no network namespaces without root: {0}")]
    NotAllowed(String),
    /// A program of the system is missing. Tests skip it.
    #[error("there is no `{0}` here (package iproute2)")]
    Missing(&'static str),
    /// It should be possible here, and is not. An error, never a reason to skip.
    #[error("{0}")]
    Broken(String),
}

impl NoLaboratory {
    /// Whether this machine cannot have one, so that going without is no failure.
    pub fn is_skip(&self) -> bool {
        match self {
            Self::NotAllowed(_) | Self::Missing(_) => true,
            Self::Broken(_) => false,
        }
    }

    pub(crate) fn from_ip(error: String) -> Self {
        let denied = ["Operation not permitted", "Permission denied"].iter().any(|text| error.contains(text));
        if denied { Self::NotAllowed(error) } else { Self::Broken(error) }
    }
}

/// The two namespaces; dropping it removes them.
#[derive(Debug)]
pub struct Namespaces {
    near: String,
    far: String,
}

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// [`NoLaboratory`].
    pub fn create() -> Result<Self, NoLaboratory> {
        for program in ["ip", "ss"] {
            if !is_at_hand(program) {
                return Err(NoLaboratory::Missing(program));
            }
        }
        let name = |end| format!("bowline-{}-{end}", std::process::id());
        let both = Self { near: name("near"), far: name("far") };
        for namespace in [&both.near, &both.far] {
            ip(&format!("netns add {namespace}")).map_err(NoLaboratory::from_ip)?;
        }
        both.wire().map_err(NoLaboratory::Broken)?;
        Ok(both)
    }

    /// Lays the cables.
    fn wire(&self) -> Result<(), String> {
        for namespace in [&self.near, &self.far] {
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        for cable in Cable::BOTH {
            let (near, far) = (cable.interface("near"), cable.interface("far"));
            ip(&format!("-n {} link add {near} type veth peer name {far} netns {}", self.near, self.far))?;
            for (namespace, interface, address) in [(&self.near, near, cable.near()), (&self.far, far, cable.far())] {
                ip(&format!("-n {namespace} addr add {address}/24 dev {interface}"))?;
                ip(&format!("-n {namespace} link set {interface} up"))?;
            }
        }
        Ok(())
    }

    /// A command to be run where the sender is.
    pub fn near(&self, program: &Path) -> Command {
        within(&self.near, program)
    }

    /// A command to be run where the receiver is.
    pub fn far(&self, program: &Path) -> Command {
        within(&self.far, program)
    }

    /// Lets a cable go silent both ways.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn black_hole(&self, cable: Cable) -> Result<(), String> {
        let (near, far) = (cable.interface("near"), cable.interface("far"));
        ip(&format!("-n {} neigh replace {} lladdr {NOBODY} dev {near} nud permanent", self.near, cable.far()))?;
        ip(&format!("-n {} neigh replace {} lladdr {NOBODY} dev {far} nud permanent", self.far, cable.near()))
    }

    /// Takes the sender's interface down.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn link_down(&self, cable: Cable) -> Result<(), String> {
        ip(&format!("-n {} link set {} down", self.near, cable.interface("near")))
    }

    /// Ends every TCP connection over a cable with a reset.
    ///
    /// # Errors
    /// What `ss` says.
    pub fn reset(&self, cable: Cable) -> Result<(), String> {
        let mut command = within(&self.near, Path::new("ss"));
        command.args(["-K", "-t", "dst", &cable.far()]);
        system(command)
    }

    /// Makes both cables good again.
    pub fn heal(&self) {
        for cable in Cable::BOTH {
            let (near, far) = (cable.interface("near"), cable.interface("far"));
            // There is no such entry when this cable was not broken that way.
            let _ = ip(&format!("-n {} neigh del {} dev {near}", self.near, cable.far()));
            let _ = ip(&format!("-n {} neigh del {} dev {far}", self.far, cable.near()));
            let _ = ip(&format!("-n {} link set {near} up", self.near));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            // The second one is missing when the first could not be made.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

fn within(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_permitted_is_a_reason_to_skip() {
        let of = |text: &str| NoLaboratory::from_ip(text.to_owned());
        assert!(of("mkdir /run/netns failed: Permission denied").is_skip());
        assert!(of("mount --make-shared /run/netns failed: Operation not permitted").is_skip());
        assert!(!of("Cannot create namespace file: File exists").is_skip());
        assert!(!NoLaboratory::Broken("RTNETLINK answers: Operation not supported".into()).is_skip());
    }
}
