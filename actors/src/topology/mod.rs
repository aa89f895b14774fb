//! The shape of the network: what holds it together and what would tear it.
//!
//! Everything here is pure: graphs go in, figures come out; results are exact but for [`communities`].
//!
//! | part | idea |
//! |---|---|
//! | [`Analyser`], [`Shape`] | everything about a graph in one call: diameter, clustering, bridge nodes, bridges, components, risk |
//! | [`Clustering`] | the clustering coefficients alone, kept up to date edge by edge |
//! | [`what_if`] | what the loss of one node would do |
//! | [`communities`] | groups with more links inside than between them |
//! | [`betweenness`] | how many shortest paths lead through each node |
//! | [`Surveyor`] | what a node makes of its part of the network in one look, on whatever thread |
//! | [`EdgeList`] | graphs as text |
//! | [`drawing`] | graphs as Graphviz text and as SVG |
//!
//! How [`Analyser`] works, in order: `layout` renumbers the graph breadth-first, `core` takes off its trees, then over the rest `triangles`,
//! `cuts` (bridge nodes and bridges) and `diameter`, which has `sweep` search from many nodes at once, `net` saying from which.

pub mod actor;
mod analysis;
pub mod betweenness;
mod clustering;
pub mod communities;
mod core;
mod cuts;
mod diameter;
pub mod drawing;
mod edge_list;
mod gauges;
pub mod healing;
mod layout;
pub mod link_state;
mod looks;
mod net;
mod own_part;
mod rows;
mod survey;
mod sweep;
#[cfg(test)]
mod tests;
mod triangles;
pub mod watch;
mod what_if;

pub use analysis::{Analyser, NodeShape, Separation, Shape};
pub use clustering::Clustering;
pub use edge_list::{EdgeList, EdgeListError};
pub use survey::{Review, Survey, Surveyor};
pub use what_if::{WhatIf, what_if};
