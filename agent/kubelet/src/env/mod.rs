//! A container's environment: every source, `$(VAR)` expansion, service variables.
