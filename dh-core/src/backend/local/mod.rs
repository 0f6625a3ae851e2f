//! Engines as supervised processes on this machine, studios as volumes of its disk.

pub mod durable;
pub mod loopdev;
pub mod mountinfo;
pub mod volume;
