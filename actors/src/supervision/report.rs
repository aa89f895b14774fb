//! What a supervisor tells about its children: lists, counts and the live tree.

use std::future::Future;
use std::time::Duration;

use actix::{Handler, MessageResult, ResponseFuture};
use bowline_messages::supervision::{
    ChildCounts, ChildInfo, ChildKind, ChildState, CountChildren, Tree, TreeNode, WhichChildren,
};
use futures_util::future::join_all;

use super::call::call_within;
use super::cell::ChildCell;
use super::context::Context;
use super::policy::{Key, Named as _};
use super::supervisor::{Child, SupervisorActor};
use crate::clock;

/// How long a child may take to answer for the tree: one turn of the thread is enough for one that is well.
const ANSWER_MAX: Duration = Duration::from_secs(1);

impl Handler<WhichChildren> for SupervisorActor {
    type Result = Vec<ChildInfo>;

    fn handle(&mut self, _: WhichChildren, _: &mut Context<Self>) -> Self::Result {
        let info = |(key, child): (Key, &Child)| ChildInfo {
            id: child.id().to_owned(),
            kind: kind(child),
            restart: child.restart,
            state: self.policy.state(key).unwrap_or(ChildState::Down),
            restarts: child.handle.0.restarts(),
        };
        self.policy.iter().map(info).collect()
    }
}

impl Handler<CountChildren> for SupervisorActor {
    type Result = MessageResult<CountChildren>;

    fn handle(&mut self, _: CountChildren, _: &mut Context<Self>) -> Self::Result {
        let specs = self.policy.len();
        let children = self.policy.iter();
        let supervisors = children.filter(|(_, child)| child.below.is_some()).count();
        MessageResult(ChildCounts { specs, active: self.policy.alive(), supervisors, workers: specs - supervisors })
    }
}

impl Handler<Tree> for SupervisorActor {
    type Result = ResponseFuture<TreeNode>;

    fn handle(&mut self, _: Tree, ctx: &mut Context<Self>) -> Self::Result {
        let own = TreeNode {
            id: ctx.cell().map_or_else(String::new, |cell| cell.id().to_owned()),
            kind: ChildKind::Supervisor,
            state: if self.policy.is_ending() { ChildState::Stopping } else { ChildState::Running },
            restarts: ctx.restarts(),
            mailbox: None,
            last_error: None,
            uptime: Some(clock::now().saturating_duration_since(self.since)),
            strategy: Some(self.policy.rules().strategy),
            children: Vec::new(),
        };
        let depth = ctx.cell().map(|cell| depth(cell));
        let children: Vec<_> = self.policy.iter().map(|(key, child)| self.node(key, child)).collect();
        Box::pin(async move {
            let mailbox = match depth {
                Some(depth) => depth.await,
                None => None,
            };
            TreeNode { mailbox, children: join_all(children).await, ..own }
        })
    }
}

impl SupervisorActor {
    /// One child with what is below it.
    fn node(&self, key: Key, child: &Child) -> impl Future<Output = TreeNode> + use<> {
        let now = clock::now();
        let state = self.policy.state(key).unwrap_or(ChildState::Down);
        let up_since = self.policy.up_since(key);
        let node = TreeNode {
            id: child.id().to_owned(),
            kind: kind(child),
            state,
            restarts: child.handle.0.restarts(),
            mailbox: None,
            last_error: child.last_error.as_deref().map(str::to_owned),
            uptime: up_since.map(|since| now.saturating_duration_since(since)),
            strategy: None,
            children: Vec::new(),
        };
        let depth = depth(&child.handle.0);
        let below = child.below.as_ref().filter(|_| up_since.is_some());
        let below = below.map(|below| below.address.clone());
        async move {
            // First the count, then the question, or the question would be counted.
            let mailbox = depth.await;
            let below = match below {
                Some(below) => call_within(&below, Tree, ANSWER_MAX).await.ok(),
                None => None,
            };
            TreeNode {
                mailbox,
                strategy: below.as_ref().and_then(|below| below.strategy),
                children: below.map_or_else(Vec::new, |below| below.children),
                ..node
            }
        }
    }
}

/// Asks a child's task how many messages wait.
fn depth(cell: &ChildCell) -> impl Future<Output = Option<usize>> + use<> {
    let asked = cell.ask_depth();
    async move { tokio::time::timeout(ANSWER_MAX, asked?).await.ok()?.ok() }
}

fn kind(child: &Child) -> ChildKind {
    if child.below.is_some() { ChildKind::Supervisor } else { ChildKind::Worker }
}
