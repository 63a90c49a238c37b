//! The drop-in kubelet.

fn main() {}
