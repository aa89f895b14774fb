//! What an interface is made of, as far as the operating system says.

use bowline_messages::link::Medium;

/// The medium of the interface with this name.
#[cfg(target_os = "linux")]
pub fn medium_of(name: &str) -> Medium {
    linux::classify(std::path::Path::new("/sys/class/net"), name)
}

/// Other systems are not asked yet: only the loopback interface is told by its name.
#[cfg(not(target_os = "linux"))]
pub fn medium_of(name: &str) -> Medium {
    if name.starts_with("lo") { Medium::Loopback } else { Medium::Unknown }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    use super::Medium;

    /// `ARPHRD_*` numbers of `linux/if_arp.h`, as `/sys/class/net/*/type` prints them.
    const ETHER: u32 = 1;
    const LOOPBACK: u32 = 772;
    const RAW_IP: u32 = 519;
    const LOWPAN: u32 = 825;

    /// Reads `root/NAME/`: the kernel's own marks first, names last.
    pub(super) fn classify(root: &Path, name: &str) -> Medium {
        // A name is one component of a path; anything else would look elsewhere.
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Medium::Unknown;
        }
        let device = root.join(name);
        let kind = fs::read_to_string(device.join("type")).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let device_type = device_type(&device);
        match kind {
            None => Medium::Unknown,
            Some(LOOPBACK) => Medium::Loopback,
            Some(LOWPAN) => Medium::Bluetooth,
            _ if device_type.as_deref() == Some("bluetooth") => Medium::Bluetooth,
            _ if device_type.as_deref() == Some("wwan") => Medium::Cellular,
            Some(RAW_IP) => Medium::Cellular,
            _ if is_wireless(&device, device_type.as_deref()) => {
                if name.starts_with("p2p") {
                    Medium::WifiDirect
                } else {
                    Medium::Wifi
                }
            }
            Some(ETHER) if name.starts_with("wwan") => Medium::Cellular,
            Some(ETHER) => Medium::Ethernet,
            Some(_) => Medium::Unknown,
        }
    }

    fn is_wireless(device: &Path, device_type: Option<&str>) -> bool {
        device_type == Some("wlan") || device.join("wireless").exists() || device.join("phy80211").exists()
    }

    /// `DEVTYPE` of the interface's `uevent`.
    fn device_type(device: &Path) -> Option<String> {
        let text = fs::read_to_string(device.join("uevent")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).map(str::to_owned)
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;

        #[test]
        fn the_kernels_marks_tell_the_medium() {
            let root = tempfile::tempdir().unwrap();
            let cases = [
                ("lo", "772", "", None, Medium::Loopback),
                ("eth0", "1", "INTERFACE=eth0\n", None, Medium::Ethernet),
                ("wlp1s0", "1", "DEVTYPE=wlan\n", None, Medium::Wifi),
                ("ath9", "1", "", Some("wireless"), Medium::Wifi),
                ("p2p-wlan0-0", "1", "DEVTYPE=wlan\n", None, Medium::WifiDirect),
                ("wwan0", "1", "", None, Medium::Cellular),
                ("rmnet0", "519", "", None, Medium::Cellular),
                ("wwp0s20", "1", "DEVTYPE=wwan\n", None, Medium::Cellular),
                ("bnep0", "1", "DEVTYPE=bluetooth\n", None, Medium::Bluetooth),
                ("tun0", "65534", "", None, Medium::Unknown),
            ];
            for (name, kind, uevent, directory, medium) in cases {
                let device = root.path().join(name);
                fs::create_dir(&device).unwrap();
                fs::write(device.join("type"), format!("{kind}\n")).unwrap();
                fs::write(device.join("uevent"), uevent).unwrap();
                if let Some(directory) = directory {
                    fs::create_dir(device.join(directory)).unwrap();
                }
                assert_eq!(classify(root.path(), name), medium, "{name}");
            }
            assert_eq!(classify(root.path(), "missing"), Medium::Unknown);
            assert_eq!(classify(root.path(), "../eth0"), Medium::Unknown);
        }
    }
}
