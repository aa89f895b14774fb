//! Where files are looked for and kept (XDG base directories).

use std::path::{Path, PathBuf};

use bowline_messages::config::NodeConfig;

/// The environment, as far as it decides about places. Taken once, handed on, so that tests need no real environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `$BOWLINE_CONFIG`.
    pub config_file: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub config_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, or `~/.local/state`.
    pub state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl Places {
    /// Those of this process. An XDG variable that holds no absolute path is ignored, as its specification demands.
    pub fn from_env() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        let home = absolute("HOME").or_else(|| absolute("USERPROFILE"));
        let in_home = |below: &str| home.as_ref().map(|home| home.join(below));
        Self {
            config_file: path("BOWLINE_CONFIG"),
            config_home: absolute("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            state_home: absolute("XDG_STATE_HOME").or_else(|| in_home(".local/state")),
            runtime_dir: absolute("XDG_RUNTIME_DIR"),
        }
    }

    /// Configuration files in the order they are looked for; `true` for one that was named and therefore has to exist.
    pub fn config_candidates(&self, flag: Option<&Path>) -> Vec<(PathBuf, bool)> {
        let named = flag.map(Path::to_owned).or_else(|| self.config_file.clone());
        if let Some(named) = named {
            return vec![(named, true)];
        }
        let user = self.config_home.iter().map(|home| (home.join("bowline/config.toml"), false));
        user.chain([(PathBuf::from("/etc/bowline/config.toml"), false)]).collect()
    }

    /// The state directory.
    pub fn state_dir(&self, config: &NodeConfig) -> PathBuf {
        if !config.identity.state_dir.is_empty() {
            return PathBuf::from(&config.identity.state_dir);
        }
        let system = || PathBuf::from("/var/lib/bowline");
        self.state_home.as_ref().map_or_else(system, |home| home.join("bowline"))
    }

    /// The key file.
    pub fn key_file(&self, config: &NodeConfig) -> PathBuf {
        let name = match config.identity.key_file.as_str() {
            "" => "identity.key",
            named => named,
        };
        self.state_dir(config).join(name)
    }

    /// The control socket. Without a runtime directory it lies in the state directory, which nobody else can enter.
    pub fn control_socket(&self, config: &NodeConfig) -> PathBuf {
        if !config.control.socket.is_empty() {
            return PathBuf::from(&config.control.socket);
        }
        let in_state = || self.state_dir(config).join("control.sock");
        self.runtime_dir.as_ref().map_or_else(in_state, |dir| dir.join("bowline.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            config_file: None,
            config_home: Some("/h/.config".into()),
            state_home: Some("/h/.local/state".into()),
            runtime_dir: Some("/run/user/1".into()),
        }
    }

    #[test]
    fn a_named_file_is_the_only_candidate_and_the_flag_wins() {
        let mut places = places();
        assert_eq!(
            places.config_candidates(None),
            [
                (PathBuf::from("/h/.config/bowline/config.toml"), false),
                (PathBuf::from("/etc/bowline/config.toml"), false)
            ]
        );
        places.config_file = Some("/e.toml".into());
        assert_eq!(places.config_candidates(None), [(PathBuf::from("/e.toml"), true)]);
        assert_eq!(places.config_candidates(Some(Path::new("/f.toml"))), [(PathBuf::from("/f.toml"), true)]);
    }

    #[test]
    fn files_lie_in_the_xdg_places_unless_configured() {
        let mut config = NodeConfig::default();
        assert_eq!(places().key_file(&config), Path::new("/h/.local/state/bowline/identity.key"));
        assert_eq!(places().control_socket(&config), Path::new("/run/user/1/bowline.sock"));
        assert_eq!(Places::default().key_file(&config), Path::new("/var/lib/bowline/identity.key"));
        assert_eq!(Places::default().control_socket(&config), Path::new("/var/lib/bowline/control.sock"));
        config.identity.state_dir = "/s".into();
        config.identity.key_file = "my.key".into();
        config.control.socket = "/c.sock".into();
        assert_eq!(places().key_file(&config), Path::new("/s/my.key"));
        assert_eq!(places().control_socket(&config), Path::new("/c.sock"));
    }
}
