//! The whole story in one process tree, without Docker.

fn main() {}
