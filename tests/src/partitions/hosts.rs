//! Hosts in network namespaces of their own, on one switch, and a packet filter on each that can stop listening to any other. Needs root, `ip` and `nft`.

use std::path::Path;
use std::process::Command;

use crate::failover::NoLaboratory;
use crate::programs::{ip, is_at_hand, system};

/// The hosts; dropping them removes them.
#[derive(Debug)]
pub struct Hosts {
    switch: String,
    hosts: Vec<String>,
}

impl Hosts {
    /// Makes so many.
    ///
    /// # Errors
    /// [`NoLaboratory`].
    pub fn create(count: usize) -> Result<Self, NoLaboratory> {
        for program in ["ip", "nft"] {
            if !is_at_hand(program) {
                return Err(NoLaboratory::Missing(program));
            }
        }
        let name = |end: &str| format!("bowline-{}-{end}", std::process::id());
        let hosts = (0..count).map(|host| name(&format!("h{host}"))).collect();
        let all = Self { switch: name("switch"), hosts };
        ip(&format!("netns add {}", all.switch)).map_err(NoLaboratory::from_ip)?;
        all.wire().map_err(NoLaboratory::Broken)?;
        Ok(all)
    }

    fn wire(&self) -> Result<(), String> {
        let switch = &self.switch;
        ip(&format!("-n {switch} link add name sw0 type bridge"))?;
        ip(&format!("-n {switch} link set sw0 up"))?;
        for (host, name) in self.hosts.iter().enumerate() {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {switch} link add port{host} type veth peer name eth0 netns {name}"))?;
            ip(&format!("-n {switch} link set port{host} master sw0 up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", Self::address(host)))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            for rule in [
                "add table inet bowline",
                "add set inet bowline deaf { type ipv4_addr; }",
                "add chain inet bowline input { type filter hook input priority 0; }",
                "add rule inet bowline input ip saddr @deaf drop",
            ] {
                self.nft(host, rule)?;
            }
        }
        Ok(())
    }

    /// The IP address of a host.
    pub fn address(host: usize) -> String {
        format!("10.78.0.{}", host + 1)
    }

    /// A command to be run on a host.
    pub fn on(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts[host]]).arg(program);
        command
    }

    /// From now on a host hears nothing of another one, and neither of them is told.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn deafen(&self, host: usize, to: usize) -> Result<(), String> {
        self.nft(host, &format!("add element inet bowline deaf {{ {} }}", Self::address(to)))
    }

    /// Everybody hears everybody.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn heal(&self) -> Result<(), String> {
        (0..self.hosts.len()).try_for_each(|host| self.nft(host, "flush set inet bowline deaf"))
    }

    fn nft(&self, host: usize, rule: &str) -> Result<(), String> {
        let mut command = self.on(host, Path::new("nft"));
        command.arg(rule);
        system(command)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain([&self.switch]) {
            // Those are missing that could not be made.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}
