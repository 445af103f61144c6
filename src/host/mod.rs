//! The operating system, and nowhere else.
