//! How one resource goes up and down: the trait, the registry, one file per kind.
