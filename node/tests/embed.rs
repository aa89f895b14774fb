//! The example runs.

#![allow(unreachable_pub)] // The example is a program of its own.

#[path = "../examples/embed.rs"]
mod embed;

#[test]
fn two_nodes_in_one_program_exchange_a_message() {
    embed::main();
}
