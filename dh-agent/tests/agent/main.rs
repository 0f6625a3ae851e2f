//! The real program on an engine's directory, with a supervisor played by the test.

mod bootstrap;
mod commands;
mod engine;
mod running;
