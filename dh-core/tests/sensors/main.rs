//! The stock sensors: conformance, recorded hosts, and the real thing.

mod conformance;
mod host;
mod http;
mod recorded;
mod sshd;
mod support;
mod sweep;
