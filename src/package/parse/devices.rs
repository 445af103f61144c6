//! What only the whole file shows of devices and mount points: two resources with the same one, and a filesystem for
//! which nothing would enforce the end of the lease. It is checked whatever else is wrong with the resources.

use std::ops::Range;

use toml::de::DeValue;

use super::super::problem::quoted;
use super::super::storage::{lies_on, overlap};
use super::resource::Word;
use crate::package::file::{Keys, Report};

/// A text of a table with its place.
type Given<'t> = (Range<usize>, &'t str);

struct Seen<'t> {
    word: Word,
    device: Option<Given<'t>>,
    mount: Option<Given<'t>>,
    unfenced: Option<(Range<usize>, bool)>,
}

/// Reports what is wrong between the resources of a file.
pub fn check<'t>(tables: &[(Option<Word>, &Keys<'t>)], report: &mut Report) {
    let seen: Vec<Seen<'t>> = tables.iter().filter_map(|(word, keys)| seen((*word)?, keys)).collect();
    for (at, this) in seen.iter().enumerate() {
        match this.word {
            Word::Lun => check_lun(this, &seen[..at], report),
            Word::Filesystem => check_filesystem(this, &seen[..at], &seen[at + 1..], report),
            Word::Ip | Word::Program => {}
        }
    }
}

fn seen<'t>(word: Word, keys: &Keys<'t>) -> Option<Seen<'t>> {
    let text = |key| keys.get(key).and_then(|value| Some((value.span(), value.get_ref().as_str()?)));
    let truth = keys.get("unfenced").and_then(|value| match value.get_ref() {
        DeValue::Boolean(truth) => Some((value.span(), *truth)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    });
    match word {
        Word::Lun | Word::Filesystem => {
            Some(Seen { word, device: text("device"), mount: text("mount"), unfenced: truth })
        }
        Word::Ip | Word::Program => None,
    }
}

fn check_lun(lun: &Seen<'_>, earlier: &[Seen<'_>], report: &mut Report) {
    let Some((span, device)) = &lun.device else { return };
    let taken =
        |other: &&Seen<'_>| other.is(Word::Lun) && other.device.as_ref().is_some_and(|(_, d)| overlap(d, device));
    if earlier.iter().any(|other| taken(&other)) {
        let what = format!("{} is the device of an earlier lun already", quoted(device));
        report.add(span.clone(), what, "name each LUN once, as a whole device, or take this resource out");
    }
}

fn check_filesystem(filesystem: &Seen<'_>, earlier: &[Seen<'_>], later: &[Seen<'_>], report: &mut Report) {
    let others = || earlier.iter().filter(|other| other.is(Word::Filesystem));
    if let Some((span, mount)) = &filesystem.mount {
        if others().any(|other| other.mount.as_ref().is_some_and(|(_, m)| m == mount)) {
            let what = format!("{} is the mount point of an earlier resource already", quoted(mount));
            report.add(span.clone(), what, "give each filesystem a mount point of its own");
        }
        let inside = |other: &Seen<'_>| other.mount.as_ref().is_some_and(|(_, m)| is_below(m, mount));
        if let Some((_, inner)) = others().find(|other| inside(other)).and_then(|other| other.mount.as_ref()) {
            let what = format!("a mount on {} would hide {}, mounted before it", quoted(mount), quoted(inner));
            report.add(span.clone(), what, "put the outer filesystem above the inner one");
        }
    }
    let Some((span, device)) = &filesystem.device else { return };
    if others().any(|other| other.device.as_ref().is_some_and(|(_, d)| d == device)) {
        let what = format!("{} is the device of an earlier filesystem already", quoted(device));
        report.add(span.clone(), what, "mount a device once, or take this resource out");
    }
    check_fence(filesystem, (span, device), earlier, later, report);
}

/// A filesystem either lies on a LUN that is reserved before it is mounted, or says that it does not.
fn check_fence(
    filesystem: &Seen<'_>,
    (span, device): (&Range<usize>, &str),
    earlier: &[Seen<'_>],
    later: &[Seen<'_>],
    report: &mut Report,
) {
    let on =
        |other: &&Seen<'_>| other.is(Word::Lun) && other.device.as_ref().is_some_and(|(_, lun)| lies_on(device, lun));
    let fenced = earlier.iter().find(on).is_some();
    match &filesystem.unfenced {
        Some((span, true)) if fenced => {
            let what = "'unfenced' is wrong here: the filesystem lies on a lun of this package";
            report.add(span.clone(), what, "take it out");
        }
        None | Some((_, false)) if !fenced && later.iter().find(on).is_some() => {
            let what = format!("the lun of {} is started after its filesystem", quoted(device));
            report.add(span.clone(), what, "put the lun above the filesystem");
        }
        None | Some((_, false)) if !fenced => {
            let what = format!(
                "nothing would keep a node whose lease has ended from writing to {}: no lun above has that device",
                quoted(device)
            );
            let remedy = "put a [[resource]] with kind = \"lun\" and the whole device above it. If the storage has no \
                          reservations, and two nodes writing at once is a risk you take, write unfenced = true";
            report.add(span.clone(), what, remedy);
        }
        Some((_, true | false)) | None => {}
    }
}

fn is_below(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

impl Seen<'_> {
    fn is(&self, word: Word) -> bool {
        self.word == word
    }
}
