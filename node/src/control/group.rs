//! What the control interface does with the group that the node belongs to.

use std::time::Duration;

use bowline_actors::node::GroupHandle;
use bowline_actors::partition::actor::CommandError;
use bowline_actors::partition::group::SubmitError;
use bytes::Bytes;

use super::protocol::{GroupStatus, TrustAsked};
use super::running::{Running, gone};
use crate::exit::{Exit, Failure};
use crate::notebook::{NotebookAnswer, NotebookCommand};

/// How long a command is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Running {
    fn group(&self) -> Result<&GroupHandle, Failure> {
        self.node.group().ok_or_else(|| {
            let none = Failure::new(Exit::False, "this node belongs to no group");
            none.hint("`group.participants` in the configuration names the ids of all that belong to one")
        })
    }

    /// `GET /v1/group`.
    ///
    /// # Errors
    /// [`Exit::False`] when there is no group.
    pub(crate) async fn group_status(&self) -> Result<GroupStatus, Failure> {
        let report = self.group()?.report().await.map_err(gone)?;
        let names = report.participants.iter().filter_map(|peer| Some((*peer, self.name_of(peer)?))).collect();
        Ok(GroupStatus { me: self.node.id(), report, names })
    }

    /// `POST /v1/group`.
    ///
    /// # Errors
    /// [`Exit::False`] when there is no group or this side is paused, [`Exit::GaveUp`] when what became of it is not known.
    pub(crate) async fn note(&self, command: NotebookCommand) -> Result<NotebookAnswer, Failure> {
        let encoded = serde_json::to_vec(&command).map_err(|error| Failure::new(Exit::Usage, error))?;
        let submitted = self.group()?.submit(Bytes::from(encoded));
        let Ok(answer) = tokio::time::timeout(PATIENCE, submitted).await else {
            let open = "accepted, and not committed yet: it is carried out when a majority is in reach, or not at all";
            return Err(Failure::new(Exit::GaveUp, open).hint("`bowline partition explain` tells more"));
        };
        let answer = answer.map_err(|error| match error {
            CommandError::Unknown => Failure::new(Exit::GaveUp, error).hint("`bowline group list` shows the state"),
            CommandError::NotAccepted(SubmitError::TooLarge { .. }) => Failure::new(Exit::Usage, error),
            CommandError::NotAccepted(_) | CommandError::Gone | _ => {
                Failure::new(Exit::False, error).hint("`bowline partition explain` tells more")
            }
        })?;
        serde_json::from_slice(&answer).map_err(|error| Failure::new(Exit::GaveUp, error))
    }

    /// `POST /v1/group/pardon`.
    ///
    /// # Errors
    /// [`Exit::Usage`] for somebody unknown.
    pub(crate) async fn pardon(&self, asked: &TrustAsked) -> Result<GroupStatus, Failure> {
        let peer = self.resolve(&asked.peer).await?.peer;
        self.group()?.pardon(peer).await.map_err(gone)?;
        self.group_status().await
    }
}
