//! Check 4: nothing acknowledged is lost. Every node, asked for itself, has what was stored and the last value of every
//! register, and nothing that was refused or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pkgctl::lab::wait_until;

use crate::asker::{Asker, Said};
use crate::clients::{Stored, read};
use crate::field::{Field, NODES};
use crate::history::Value;

/// A healed cluster answers by then.
const WITHIN: Duration = Duration::from_secs(60);

/// Everything that must be there.
#[derive(Default)]
pub struct Kept {
    pub stored: BTreeMap<String, Stored>,
    /// The last value, or one of those that an open write may have put in its place meanwhile.
    pub registers: BTreeMap<&'static str, BTreeSet<Value>>,
}

impl Kept {
    /// Looks at every node's own copy, once it has caught up.
    pub fn check(&self, field: &Field, asker: &Asker) -> Result<()> {
        for node in NODES {
            let answer = || asker.status(&field.socket(node));
            let status =
                wait_until(WITHIN, answer).with_context(|| format!("{node} does not answer after the heal"))?;
            let there: BTreeSet<&str> = status.packages.iter().map(|p| p.name.as_str()).collect();
            for (name, known) in &self.stored {
                match (known, there.contains(name.as_str())) {
                    (Stored::Yes, false) => bail!("lost: {name} was acknowledged and is not on {node}"),
                    (Stored::No, true) => bail!("{name} was refused or deleted, and is on {node}"),
                    (Stored::Yes, true) | (Stored::No, false) | (Stored::Perhaps, _) => {}
                }
            }
            for (register, values) in &self.registers {
                let is = wait_until(WITHIN, || read(field, asker, node, register)).map(|(value, _)| value);
                if !is.is_some_and(|is| values.contains(&is)) {
                    bail!("lost: {register} was one of {values:?} in the end, and is {is:?} on {node}");
                }
            }
        }
        Ok(())
    }

    /// Deletes what was stored, so that the cluster does not grow without end. Deletions that are acknowledged count
    /// as much as anything else.
    pub fn delete_stored(&mut self, field: &Field, asker: &Asker) -> usize {
        let mut deleted = 0;
        for (name, known) in self.stored.iter_mut().filter(|(_, known)| **known != Stored::No) {
            let Some(node) = NODES.iter().find(|node| field.is_on(node)) else { continue };
            let socket = field.socket(node);
            let path = format!("/v1/packages/{name}");
            let Said::Answer { status: 200, body } = asker.ask(&socket, "GET", &path, None) else { continue };
            let Ok(detail) = serde_json::from_slice::<pkgctl::api::types::PackageDetail>(&body) else { continue };
            let path = format!("{path}?revision={}", detail.view.revision);
            *known = match asker.ask(&socket, "DELETE", &path, None) {
                Said::Answer { status: 200, .. } => Stored::No,
                Said::Answer { .. } | Said::Unsent => *known,
                Said::Lost => Stored::Perhaps,
            };
            deleted += usize::from(*known == Stored::No);
        }
        deleted
    }
}
