//! The pod network side: CNI types, plugins, invocation, netlink, overlay.
