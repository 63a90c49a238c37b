//! Planner tables, and two hosts in namespaces.
mod hosts; // two hosts with pods, joined by a link
mod planner; // what is planned from what
