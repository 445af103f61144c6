//! Fuzzes the input that the target is named after; all targets are this file.
#![no_main]

use std::sync::LazyLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static INPUT: LazyLock<&inputs::Input> = LazyLock::new(|| inputs::named(env!("CARGO_BIN_NAME")));
    (INPUT.run)(bytes);
});
