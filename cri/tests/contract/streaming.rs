//! Byte streams through a real containerd.
