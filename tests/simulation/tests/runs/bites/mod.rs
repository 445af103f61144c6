//! What each check finds in histories that are written here.

mod keys;
mod linear;
