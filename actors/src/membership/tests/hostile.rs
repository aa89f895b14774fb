//! What others can do to a group.

