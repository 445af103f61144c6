//! Commands as members propose them and as the log brings them.

use pkgctl::engine::check::consistent;
use pkgctl::engine::command::Entry;
use pkgctl::engine::{LogIndex, State, apply, codec};

use super::scene;

/// Any entry that decodes can be applied: the state stays consistent, and is the same after a snapshot of it.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(entry) = codec::decode::<Entry>(bytes) else { return false };
    assert_eq!(codec::decode::<Entry>(&codec::encode(&entry)), Ok(entry.clone()));
    let mut state = State::clone(&scene::state());
    for index in [LogIndex(50), LogIndex(51)] {
        apply(&mut state, index, &entry);
        consistent(&state).expect("the state is consistent whatever is applied");
    }
    assert_eq!(codec::decode::<State>(&codec::encode(&state)).as_ref(), Ok(&state));
    true
}

pub fn seeds() -> Vec<Vec<u8>> {
    scene::commands().into_iter().map(|command| codec::encode(&scene::entry(command))).collect()
}
