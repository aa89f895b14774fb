//! How `bowline` ends: exit codes and the one line that explains them.

use std::fmt;

/// How a command ended; the number is the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The condition that was asked about is false: a peer that cannot be reached, a file that was refused.
    False = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// It took too long.
    TimedOut = 4,
    /// The running node cannot be reached.
    NodeNotReachable = 69,
    /// The node gave up: its supervisor exhausted the restarts it may make, or a bug showed.
    GaveUp = 70,
    /// Not permitted: a key file that others can read, a folder that cannot be written.
    Permission = 77,
    /// The configuration is wrong.
    Configuration = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: what to print, and how to exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, in one sentence without a full stop.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    /// The same failure with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// A failure of the operating system at a file: [`Exit::Permission`] when it was not permitted, else `otherwise`.
    pub fn at(path: &std::path::Path, error: &std::io::Error, otherwise: Exit) -> Self {
        let exit = if error.kind() == std::io::ErrorKind::PermissionDenied { Exit::Permission } else { otherwise };
        Self::new(exit, format_args!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_what_to_do() {
        let failure = Failure::new(Exit::NodeNotReachable, "no node runs").hint("start one with `bowline run`");
        assert_eq!(failure.to_string(), "no node runs; start one with `bowline run`");
        assert_eq!(failure.exit as u8, 69);
    }

    #[test]
    fn what_is_not_permitted_has_its_own_code() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let path = std::path::Path::new("/x");
        assert_eq!(Failure::at(path, &denied, Exit::False).exit, Exit::Permission);
        assert_eq!(Failure::at(path, &missing, Exit::False).exit, Exit::False);
    }
}
