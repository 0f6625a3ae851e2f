//! Engines of the local backend, with the real supervisor and real processes. Only the agent's loop is a stand-in.

mod conformance;
mod harness;
mod hibernate;
mod launch;
mod power;
mod sessions;
mod ssh;
mod terminal;
mod unprivileged;
