//! An engine's life, from launch to termination, as a person at a terminal lives it.

mod bootstrap;
mod idle;
mod operations;
mod outside;
mod power;
mod sessions;
mod studios;
