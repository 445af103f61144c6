//! What acts for the package, and where, in true time. An act ends at T by itself: the kernel enforces it, whether or
//! not anything of ours runs.

use pkgctl::engine::check::{Claim, one_actor};
use pkgctl::engine::lease::Rule;
use pkgctl::engine::supervisor::{Duty, duty};
use pkgctl::engine::{Token, WallMillis};
use pkgctl::package::PackageName;

use super::node::Act;
use super::world::World;

impl World {
    /// Closes what has ended by itself. Called before anything else happens on a node.
    pub fn end_lapsed_acts(&mut self, node: usize) {
        let at = self.nodes[node].clock.holder(self.now);
        let lapsed: Vec<PackageName> =
            self.nodes[node].acts.iter().filter(|(_, act)| act.until <= at).map(|(name, _)| name.clone()).collect();
        for package in lapsed {
            self.end_act(node, &package);
        }
    }

    /// Brings what acts in line with what the node knows: rules 13 and 20.
    pub fn update_acts(&mut self, node: usize) {
        let packages: Vec<PackageName> = self.nodes[node].state.packages.keys().cloned().collect();
        for package in packages {
            let may = self.may_act(node, &package);
            let acts = self.nodes[node].acts.get(&package).map(|act| act.token);
            if acts.is_some() && acts != may {
                self.end_act(node, &package);
            }
            match may {
                Some(token) if acts != Some(token) => self.begin_act(node, package, token),
                Some(_) => self.prolong(node, &package),
                None => {}
            }
        }
    }

    /// Ends every act of a node at once: its keeper died.
    pub fn end_all_acts(&mut self, node: usize) {
        self.end_lapsed_acts(node);
        let all: Vec<PackageName> = self.nodes[node].acts.keys().cloned().collect();
        all.iter().for_each(|package| self.end_act(node, package));
    }

    /// What acts now, as claims up to now.
    pub fn open_claims(&self) -> Vec<Claim> {
        let claim = |node: usize, package: &PackageName, act: &Act| Claim {
            package: package.clone(),
            node: self.nodes[node].id,
            token: act.token,
            from_ns: act.from,
            until_ns: self.nodes[node].clock.holder_instant(act.until).min(self.now + 1),
        };
        let of = |node: usize| self.nodes[node].acts.iter().map(move |(package, act)| claim(node, package, act));
        (0..self.nodes.len()).flat_map(of).filter(|claim| claim.until_ns > self.now).collect()
    }

    /// The token it may act under: its own session's ownership is applied, T lies ahead, nothing was released.
    fn may_act(&self, node: usize, package: &PackageName) -> Option<Token> {
        let of = &self.nodes[node];
        let session = of.held(self.now)?;
        let entry = of.state.packages.get(package)?;
        match duty(&of.state, of.id, session, entry) {
            Duty::Own { token, .. } => {
                let guarded = self.rules.hold(Rule::ReleasedToken);
                let released = of.released.get(package).is_some_and(|released| token <= *released);
                (!(guarded && released)).then_some(token)
            }
            Duty::Yield { .. } | Duty::None => None,
        }
    }

    fn begin_act(&mut self, node: usize, package: PackageName, token: Token) {
        let of = &mut self.nodes[node];
        let Some(until) = of.holder.as_ref().and_then(|holder| holder.deadline()) else { return };
        of.acts.insert(package, Act { token, from: self.now, until });
        self.trace.line(self.now, format_args!("n{} acts under token {token}", node + 1));
        if let Err(violation) = one_actor(&self.open_claims()) {
            self.fail(violation.to_string());
        }
    }

    fn prolong(&mut self, node: usize, package: &PackageName) {
        let of = &mut self.nodes[node];
        let deadline = of.holder.as_ref().and_then(|holder| holder.deadline());
        if let (Some(act), Some(until)) = (of.acts.get_mut(package), deadline)
            && until > act.until
        {
            act.until = until;
        }
    }

    pub fn end_act(&mut self, node: usize, package: &PackageName) {
        let Some(act) = self.nodes[node].acts.remove(package) else { return };
        let until = self.nodes[node].clock.holder_instant(act.until).min(self.now);
        let wall = WallMillis(until / super::MS);
        self.trace.line(self.now, format_args!("n{} stops acting under {}, at {}", node + 1, act.token, wall.0));
        let (package, id) = (package.clone(), self.nodes[node].id);
        self.claims.push(Claim { package, node: id, token: act.token, from_ns: act.from, until_ns: until });
    }
}
