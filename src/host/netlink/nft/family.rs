//! Whether this kernel can filter ARP: the family `arp` may be left out of it (CONFIG_NF_TABLES_ARP), the other two of
//! the guard may not.

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, NfTablesMessage, TableAttribute, TableMessage,
};
use nix::errno::Errno;

use super::batch::{Batch, BatchError};

/// Not [`super::TABLE`]: an earlier keeper's table must stay as it is.
const TRIAL: &str = "pkgctl-trial";

/// Adds a table with a hook and deletes it, in one transaction: nothing is left of it.
pub(super) fn trial() -> Batch {
    let family = NetfilterProtoFamily::ARP;
    let table = TableMessage { attributes: vec![TableAttribute::Name(TRIAL.into())] };
    let attributes = vec![
        ChainAttribute::Table(TRIAL.into()),
        ChainAttribute::Name(TRIAL.into()),
        ChainAttribute::Hook(vec![Hook::Number(HookNumber::Other(0)), Hook::Priority(0)]),
        ChainAttribute::Type("filter".into()),
    ];
    let mut batch = Batch::default();
    batch.push("filter ARP", family, NLM_F_CREATE, NfTablesMessage::NewTable(table.clone()));
    batch.push("filter ARP", family, NLM_F_CREATE, NfTablesMessage::NewChain(ChainMessage { attributes }));
    batch.push("filter ARP", family, 0, NfTablesMessage::DeleteTable(table));
    batch
}

/// True when the kernel does not know the family. Any other refusal (no permission, say) says nothing about that.
pub(super) fn is_unknown(outcome: &Result<(), BatchError>) -> bool {
    let unknown = |errno: &Errno| matches!(errno, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::ENOENT);
    match outcome {
        Err(BatchError::Refused(all)) => all.iter().all(|(_, errno)| unknown(errno)),
        Ok(()) | Err(BatchError::RefusedWhole(_) | BatchError::Unknown(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_does_not_know_the_family_lacks_it() {
        let refused = |errnos: &[Errno]| Err(BatchError::Refused(errnos.iter().map(|e| ("filter ARP", *e)).collect()));
        assert!(is_unknown(&refused(&[Errno::EOPNOTSUPP, Errno::ENOENT, Errno::ENOENT])));
        assert!(is_unknown(&refused(&[Errno::EAFNOSUPPORT])));
        assert!(is_unknown(&refused(&[Errno::ENOENT])), "the table is known, its chain type is not");
        assert!(!is_unknown(&refused(&[Errno::ENOMEM, Errno::ENOENT])));
        assert!(!is_unknown(&Err(BatchError::RefusedWhole(Errno::EPERM))));
        assert!(!is_unknown(&Ok(())));
    }
}
