//! Check 2: the tokens of a package only rise, and no token is ever used by two nodes.

use std::collections::BTreeMap;

use pkgctl::lab::{Life, Moment};

/// Whoever used a token first, and when.
#[derive(Default)]
pub struct Tokens(BTreeMap<u64, (String, Moment)>);

impl Tokens {
    /// Takes in what a package's programs have recorded; lives may be told again.
    pub fn check(&mut self, lives: &[Life]) -> Result<(), String> {
        for life in lives {
            let Some(first) = life.beats.first() else { continue };
            let (node, since) = self.0.entry(life.token).or_insert_with(|| (life.node.clone(), *first));
            if *node != life.node {
                return Err(format!("token {} was used by {node} and by {}", life.token, life.node));
            }
            *since = (*since).min(*first);
        }
        let mut earlier: Option<(&u64, &(String, Moment))> = None;
        for (token, user) in &self.0 {
            if let Some((smaller, before)) = earlier.filter(|(_, before)| before.1 > user.1) {
                return Err(format!(
                    "token {smaller} was first used by {} after token {token} by {}: {:?} and {:?}",
                    before.0, user.0, before.1, user.1
                ));
            }
            earlier = Some((token, user));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: &str, token: u64, first: u64) -> Life {
        Life { node: node.to_owned(), token, pid: 1, beats: vec![Moment(first)], forgotten: 0 }
    }

    #[test]
    fn rising_tokens_pass_and_a_program_may_start_again_under_its_own() {
        let mut tokens = Tokens::default();
        tokens.check(&[life("n1", 5, 10), life("n1", 5, 20)]).unwrap();
        tokens.check(&[life("n1", 5, 20), life("n2", 7, 30)]).unwrap();
    }

    #[test]
    fn a_token_of_two_nodes_and_one_that_falls_are_caught() {
        let mut tokens = Tokens::default();
        assert!(tokens.check(&[life("n1", 5, 10), life("n2", 5, 20)]).is_err());
        let mut tokens = Tokens::default();
        tokens.check(&[life("n1", 7, 10)]).unwrap();
        assert!(tokens.check(&[life("n2", 5, 20)]).is_err());
    }
}
