//! Words for people: one file per verb.
