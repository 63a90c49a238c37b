//! The kubelet: pods from source to status.
