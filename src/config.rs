//! Agent configuration: every problem of a bad file is reported at once.
