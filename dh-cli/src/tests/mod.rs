//! Commands from their arguments to what they print, over a control plane, a terminal and a machine made for the test.

mod engine;
mod json;
mod lists;
mod operations;
mod ssh;
mod studio;
mod world;
