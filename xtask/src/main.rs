//! The project's chores: one test command, checks, images.

fn main() {}
