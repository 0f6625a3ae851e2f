mod explaining;
mod promises;
mod tracking;
mod world;
