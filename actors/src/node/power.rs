//! What this machine lives on, as Linux tells it in `/sys/class/power_supply`.

use std::fs;
use std::path::Path;

/// Where Linux tells it.
const SUPPLIES: &str = "/sys/class/power_supply";

/// Power that is left, 0 to 1; 1 on the mains. `None`: not measured, because there is no battery or nobody who could say.
pub(super) fn power_left() -> Option<f64> {
    power_in(Path::new(SUPPLIES))
}

/// The same from a folder of supplies. Batteries of devices that are attached (a mouse, say) do not count.
fn power_in(supplies: &Path) -> Option<f64> {
    let mut left = Vec::new();
    for supply in fs::read_dir(supplies).ok()?.flatten() {
        let said = |file: &str| fs::read_to_string(supply.path().join(file)).map(|text| text.trim().to_owned()).ok();
        let kind = said("type").unwrap_or_default();
        if kind != "Battery" && said("online").is_some_and(|online| online == "1") {
            return Some(1.0);
        }
        let own = said("scope").is_none_or(|scope| scope != "Device");
        if kind == "Battery" && own {
            left.extend(said("capacity").and_then(|percent| percent.parse::<f64>().ok()));
        }
    }
    let least = left.into_iter().filter(|percent| percent.is_finite()).reduce(f64::min)?;
    Some((least / 100.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn supplies(of: &[(&str, &[(&str, &str)])]) -> Option<f64> {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in of {
            fs::create_dir(folder.path().join(name)).unwrap();
            for (file, text) in *files {
                fs::write(folder.path().join(name).join(file), format!("{text}\n")).unwrap();
            }
        }
        power_in(folder.path())
    }

    #[test]
    fn a_battery_is_what_is_left_of_it_unless_the_mains_are_there() {
        let battery: (&str, &[(&str, &str)]) = ("BAT0", &[("type", "Battery"), ("capacity", "37")]);
        let mouse: (&str, &[(&str, &str)]) = ("hid", &[("type", "Battery"), ("scope", "Device"), ("capacity", "5")]);
        assert_eq!(supplies(&[battery, mouse]), Some(0.37));
        assert_eq!(supplies(&[("AC", &[("type", "Mains"), ("online", "0")]), battery]), Some(0.37));
        assert_eq!(supplies(&[("AC", &[("type", "Mains"), ("online", "1")]), battery]), Some(1.0));
    }

    #[test]
    fn what_nobody_says_is_not_measured() {
        assert_eq!((supplies(&[]), supplies(&[("BAT0", &[("type", "Battery"), ("capacity", "?")])])), (None, None));
        assert_eq!(power_in(Path::new("/nowhere")), None);
    }
}
