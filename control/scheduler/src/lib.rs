//! The scheduler: filter and score plugins, binding.
