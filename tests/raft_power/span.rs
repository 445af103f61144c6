//! How much was written to one file between two syncs of it.

use std::path::Path;

use crate::trace::{Call, What};

/// The most of any stretch between two syncs.
#[derive(Debug, Default)]
pub struct Most {
    /// Bytes written.
    pub bytes: usize,
    /// Writes at a multiple of the unit: begins of segments.
    pub begun: usize,
}

/// Looks at everything after the first promise: what came before belongs to the opening.
pub fn between_syncs(calls: &[Call], file: &Path, unit: usize) -> Most {
    let (mut most, mut now) = (Most::default(), Most::default());
    let promise = |call: &Call| matches!(&call.what, What::Said(text) if text.contains("voted"));
    for call in calls.iter().skip_while(|call| !promise(call)) {
        match &call.what {
            What::Write(path, Some(offset), bytes) if path == file => {
                now.bytes += bytes.len();
                now.begun += usize::from(offset % unit as u64 == 0);
                most = Most { bytes: most.bytes.max(now.bytes), begun: most.begun.max(now.begun) };
            }
            What::Sync(path) if path == file => now = Most::default(),
            What::Write(..)
            | What::Sync(_)
            | What::SetLength(..)
            | What::Create(..)
            | What::Rename(..)
            | What::Remove(_)
            | What::Said(_) => {}
        }
    }
    most
}
