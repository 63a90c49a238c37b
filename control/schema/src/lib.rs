//! The table of every API type, and all that is written once over it.
