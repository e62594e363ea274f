//! Load tests.

fn main() {}
