//! What operations do, and refuse to do.
