//! The hardware addresses of this host's own interfaces. On a network on which the host has two, the one hears what the
//! other says, and that is nobody else's claim.

use crate::host::netlink::route::{Link, Route};
use crate::host::tap::Mac;

/// Looks them up when first asked for; made anew for each look at what was heard, because links change.
pub(super) struct OwnMacs<'a> {
    route: &'a mut Route,
    known: Option<Vec<Mac>>,
}

impl<'a> OwnMacs<'a> {
    /// Nothing is looked up yet.
    pub fn new(route: &'a mut Route) -> Self {
        Self { route, known: None }
    }

    /// True when an interface of this network namespace has that address and can speak now. If they cannot be listed,
    /// the claim counts as somebody else's.
    pub fn have(&mut self, mac: Mac) -> bool {
        let route = &mut *self.route;
        self.known.get_or_insert_with(|| of(&route.links().unwrap_or_default())).contains(&mac)
    }
}

/// An interface that is down or without neighbours says nothing; its address is no excuse for anybody.
fn of(links: &[Link]) -> Vec<Mac> {
    let speaking = links.iter().filter(|link| link.up && link.resolves);
    speaking.filter_map(|link| <[u8; 6]>::try_from(&link.mac[..]).ok().map(Mac)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_that_can_speak_on_a_network_are_our_own_voice() {
        let link = |last: u8, up, resolves| Link {
            index: u32::from(last),
            name: format!("eth{last}"),
            mac: vec![2, 0, 0, 0, 0, last],
            up,
            carrier: up,
            loopback: false,
            resolves,
        };
        let no_mac = Link { mac: Vec::new(), ..link(4, true, true) };
        let links = [link(0, true, true), link(1, true, true), link(2, false, true), link(3, true, false), no_mac];
        assert_eq!(of(&links), [Mac([2, 0, 0, 0, 0, 0]), Mac([2, 0, 0, 0, 0, 1])]);
        assert_eq!(of(&[]), []);
    }
}
