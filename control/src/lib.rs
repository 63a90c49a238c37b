//! The cluster side in one value: store, API server, scheduler and controllers, started and stopped together.
