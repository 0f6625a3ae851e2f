//! What the logic needs of the world, as traits. Everything that has an effect, or reads a clock, stands behind one.

mod backend;
mod clock;
mod control;
mod notify;
mod progress;
mod sensor;
mod store;

pub use backend::*;
pub use clock::*;
pub use control::*;
pub use notify::*;
pub use progress::*;
pub use sensor::*;
pub use store::*;
