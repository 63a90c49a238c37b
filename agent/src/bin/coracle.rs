//! Everything in one process.

fn main() {}
