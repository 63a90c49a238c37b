//! Values every part of a cluster shares: quantities, durations, selectors, names, Status errors.
