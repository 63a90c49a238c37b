//! The node agent: the kubelet alone, or everything in one process.
