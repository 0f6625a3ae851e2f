//! Engines of the local backend, with the real supervisor and real processes. Only the agent's loop is a stand-in, but for
//! the cases that every backend must pass and the sagas.

mod conformance;
mod harness;
mod hibernate;
mod launch;
mod power;
mod sagas;
mod sessions;
mod ssh;
mod terminal;
mod unprivileged;
