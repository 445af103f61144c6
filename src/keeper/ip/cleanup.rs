//! Rule 5: before a new keeper registers, nothing of an earlier life may be left: no element, no address, no rule.

use nix::errno::Errno;

use super::worker::Worker;
use crate::host::netlink::nft::{BatchError, Shape, element};
use crate::host::netlink::route::Address;
use crate::host::netlink::sock_diag::destroy_sockets;

impl Worker {
    /// Takes away everything that stands under our names or marks, and what this life holds too.
    pub fn clean_all(&mut self) {
        let outcome = self.clean();
        self.cleaned(outcome);
    }

    fn clean(&mut self) -> Result<(), String> {
        for state in std::mem::take(&mut self.slots).into_values() {
            let _ = self.renewer.revoke(state.slot);
        }
        self.held.clear();
        let left = self.left_addresses()?;
        let tables = match self.nft.tables() {
            Ok(tables) => tables,
            // Without CAP_NET_ADMIN here no earlier life can have set anything either.
            Err(e) if e.refusal() == Some(Errno::EPERM) && left.is_empty() => return Ok(()),
            Err(e) => return Err(format!("cannot look for rules of an earlier keeper: {e}")),
        };
        // Shut first, delete then, unguard last.
        for family in tables.iter().copied() {
            match self.nft.commit(&element::revoke_all(family)) {
                Ok(()) => {}
                // A table of ours without its set: someone changed it; it goes below.
                Err(e) if e.is_absent() => {}
                Err(e) => return Err(unclean(&e)),
            }
        }
        for address in &left {
            let _ = destroy_sockets(address.ip);
            self.route
                .delete_address(address.ip, address.prefix, address.index)
                .map_err(|e| format!("an address of an earlier keeper cannot be taken away: {e}; remove it by hand"))?;
        }
        if !tables.is_empty() {
            self.nft.commit(&Shape::default().build()).map_err(|e| unclean(&e))?;
        }
        self.shape = Shape::default();
        self.record.clear().map_err(|e| format!("cannot clear the record of addresses: {e}"))
    }

    fn left_addresses(&mut self) -> Result<Vec<Address>, String> {
        let all = self.route.addresses().map_err(|e| format!("cannot look for addresses of an earlier keeper: {e}"))?;
        Ok(all.into_iter().filter(|a| a.ours || self.record.lists(a.ip, a.prefix)).collect())
    }
}

fn unclean(e: &BatchError) -> String {
    format!(
        "rules of an earlier keeper cannot be removed: {e}; remove the tables named pkgctl (nft list tables) by hand"
    )
}
