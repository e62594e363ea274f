//! What lies below a level of a topic, by the name of the next one: the edges of the trees of subscriptions and of
//! retained messages.
//!
//! Hashed, so that a step costs the same however many names there are. Clients choose the names, so the hash is seeded anew for
//! each level. Nodes are boxed: the table, which is reached into at random, stays small enough for the cache, and a node lies where
//! the rest of what came with it lies.

use foldhash::fast::RandomState;
use std::collections::HashMap;

pub(crate) type Levels<Node> = HashMap<Box<str>, Box<Node>, RandomState>;

/// A name was removed: gives memory back once three quarters of it are free.
pub(crate) fn tidy<Node>(levels: &mut Levels<Node>) {
    if levels.capacity() > 4 * levels.len() {
        levels.shrink_to_fit();
    }
}
