//! I1: at no instant do two nodes act for one package.

use super::{Violation, violated};
use crate::engine::{NodeId, Token};
use crate::package::PackageName;

/// A node acted for a package from one instant until before another, in nanoseconds of true time: only an observer
/// outside the cluster (a simulation, a test) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For which package.
    pub package: PackageName,
    /// Which node.
    pub node: NodeId,
    /// Under which ownership.
    pub token: Token,
    /// From this instant.
    pub from_ns: u64,
    /// Until before this one.
    pub until_ns: u64,
}

/// Checks I1 over everything that was ever done.
///
/// # Errors
/// The first overlap, with its length.
pub fn one_actor(claims: &[Claim]) -> Result<(), Violation> {
    let mut sorted: Vec<&Claim> = claims.iter().filter(|claim| claim.from_ns < claim.until_ns).collect();
    sorted.sort_by(|a, b| (&a.package, a.from_ns, a.until_ns).cmp(&(&b.package, b.from_ns, b.until_ns)));
    // Of those begun so far, the one that lasts longest, and the one of another node that does.
    let (mut longest, mut other): (Option<&Claim>, Option<&Claim>) = (None, None);
    for claim in sorted {
        if longest.is_some_and(|of| of.package != claim.package) {
            (longest, other) = (None, None);
        }
        let earlier = [longest, other].into_iter().flatten().find(|of| of.node != claim.node);
        if let Some(of) = earlier.filter(|of| of.until_ns > claim.from_ns) {
            return violated("I1", overlap(of, claim));
        }
        if longest.is_none_or(|of| claim.until_ns > of.until_ns) {
            other = longest.filter(|of| of.node != claim.node).or(other.filter(|of| of.node != claim.node));
            longest = Some(claim);
        } else if longest.is_some_and(|of| of.node != claim.node) && other.is_none_or(|of| claim.until_ns > of.until_ns)
        {
            other = Some(claim);
        }
    }
    Ok(())
}

fn overlap(first: &Claim, second: &Claim) -> String {
    let until = first.until_ns.min(second.until_ns);
    format!(
        "nodes {} (token {}) and {} (token {}) both act for '{}' from {:.3} ms for {:.3} ms",
        first.node,
        first.token,
        second.node,
        second.token,
        first.package,
        millis(second.from_ns),
        millis(until - second.from_ns)
    )
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(package: &str, node: u64, from_ns: u64, until_ns: u64) -> Claim {
        let package = PackageName::new(package).unwrap();
        Claim { package, node: NodeId(node), token: Token(from_ns), from_ns, until_ns }
    }

    #[test]
    fn nodes_that_act_one_after_the_other_are_one_actor() {
        assert_eq!(one_actor(&[claim("p", 2, 10, 20), claim("p", 1, 0, 10), claim("q", 3, 5, 15)]), Ok(()));
        assert_eq!(one_actor(&[claim("p", 1, 0, 10), claim("p", 1, 5, 15)]), Ok(()), "one node is one actor");
        assert_eq!(one_actor(&[claim("p", 1, 0, 10), claim("p", 2, 5, 5)]), Ok(()), "no time is no act");
    }

    #[test]
    fn two_nodes_at_one_instant_are_not() {
        let error = one_actor(&[claim("p", 2, 9, 20), claim("p", 1, 0, 10)]).unwrap_err();
        assert_eq!(error.invariant, "I1");
        assert!(error.what.contains("nodes 1 (token 0) and 2 (token 9)"), "{error}");
    }

    #[test]
    fn a_long_claim_behind_shorter_ones_is_not_lost_sight_of() {
        let long = claim("p", 1, 0, 100);
        assert!(one_actor(&[long.clone(), claim("p", 1, 10, 20), claim("p", 2, 90, 95)]).is_err());
        assert!(one_actor(&[long, claim("p", 1, 10, 200), claim("p", 2, 150, 160)]).is_err());
        assert!(one_actor(&[claim("p", 1, 0, 50), claim("p", 2, 50, 70), claim("p", 1, 60, 61)]).is_err());
    }
}
