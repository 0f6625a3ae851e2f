//! Every saga on the fake backend: the three scaffolds, and a process that dies at every write and every call.

mod crashes;
mod fake;
mod lifecycle;
mod orphans;
mod scaffolds;
