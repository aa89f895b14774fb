//! `bowline tree`.

use bowline_messages::supervision::TreeNode;
use hyper::Method;

use super::output::Table;
use super::{Global, human};
use crate::control::client::Content;
use crate::exit::{Exit, Failure};

/// Show the running node's supervision tree: states, restarts, mailboxes, last errors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say what each part does, too
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let tree: TreeNode = global.call(Method::GET, "/v1/tree", Content::Nothing, None)?;
    global.output().result("tree", &serde_json::json!({ "tree": tree }), || {
        let mut table = Table::new(["child", "state", "restarts", "mailbox", "up", "last error"]);
        let mut explained = Table::new(["child", "does"]);
        rows(&tree, "", "", &mut table);
        if args.explain {
            explain(&tree, "", &mut explained);
            return format!("{}\n{}", table.print(), explained.print());
        }
        table.print()
    })?;
    Ok(Exit::Ok)
}

fn rows(node: &TreeNode, branch: &str, below: &str, table: &mut Table) {
    table.row([
        format!("{branch}{}", node.id),
        format!("{:?}", node.state).to_lowercase(),
        node.restarts.to_string(),
        node.mailbox.map_or_else(|| "-".into(), |depth| depth.to_string()),
        node.uptime.map_or_else(|| "-".into(), human::span),
        node.last_error.as_deref().map(human::harmless).unwrap_or_default(),
    ]);
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        let (mark, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        rows(child, &format!("{below}{mark}"), &format!("{below}{under}"), table);
    }
}

fn explain(node: &TreeNode, path: &str, table: &mut Table) {
    let what = crate::tree::row(path).map_or("", |row| row.what);
    table.row([if path.is_empty() { node.id.clone() } else { path.to_owned() }, what.to_owned()]);
    for child in &node.children {
        let below = if path.is_empty() { child.id.clone() } else { format!("{path}/{}", child.id) };
        explain(child, &below, table);
    }
}
