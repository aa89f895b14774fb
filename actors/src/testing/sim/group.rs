//! The part of a simulated node in a group: the state that is kept together, and what its application is told.

use std::rc::Rc;

use actix::{Addr, Handler};
use bowline_messages::PeerId;
use bowline_messages::partition::{PauseApplication, ResumeApplication};
use bytes::Bytes;
use serde_json::json;

use super::app::App;
use crate::node::GroupSetup;
use crate::partition::actor::GroupApplication;
use crate::partition::group::{GroupConfig, StateMachine};

/// A list of whatever was said; the answer is how much that is. `count` only asks for the answer.
#[derive(Debug, Default)]
pub(crate) struct Sheet(pub(crate) Vec<Bytes>);

impl StateMachine for Sheet {
    fn execute(&mut self, command: &Bytes) -> Bytes {
        if command.as_ref() != b"count" {
            self.0.push(command.clone());
        }
        Bytes::from(self.0.len().to_string())
    }

    fn save(&self) -> Bytes {
        postcard::to_allocvec(&self.0).unwrap_or_default().into()
    }

    fn load(&mut self, state: &Bytes) -> Result<(), String> {
        self.0 = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// A group of these, which keeps everything in memory: a node that is killed has forgotten what it promised.
pub(super) fn setup(participants: Vec<PeerId>, app: Option<&Addr<App>>) -> GroupSetup {
    let application = GroupApplication {
        machine: Rc::new(|| Box::new(Sheet::default())),
        pause: app.map(|app| app.clone().recipient()),
        resume: app.map(|app| app.clone().recipient()),
    };
    GroupSetup { participants, config: GroupConfig::default(), application, folder: None, awake: None }
}

impl Handler<PauseApplication> for App {
    type Result = ();

    fn handle(&mut self, PauseApplication { reason, grace }: PauseApplication, _: &mut Self::Context) {
        self.note("PauseApplication", &json!({ "reason": reason, "grace": grace }));
    }
}

impl Handler<ResumeApplication> for App {
    type Result = bool;

    fn handle(&mut self, ResumeApplication { token }: ResumeApplication, _: &mut Self::Context) -> bool {
        self.note("ResumeApplication", &json!({ "term": token.term, "holder": token.holder }));
        true
    }
}
