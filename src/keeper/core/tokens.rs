//! Tokens released and tokens seen, per package (rule 20). They last as long as the keeper: whatever ran under a token
//! of an earlier keeper life died with it, and its session with them.

use std::collections::BTreeMap;

use crate::engine::Token;
use crate::engine::lease::{Rule, Rules};
use crate::package::PackageName;

/// What is known of each package's tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    released: BTreeMap<PackageName, Token>,
    largest: BTreeMap<PackageName, Token>,
    rules: Rules,
}

impl Tokens {
    /// Nothing released and nothing seen.
    pub fn under(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Checks a start under a token and remembers it as seen.
    ///
    /// # Errors
    /// The sentence that says which tokens stand against it.
    pub fn admit(&mut self, package: &PackageName, token: Token) -> Result<(), String> {
        if let Some(released) = self.released.get(package).filter(|released| token <= **released) {
            return Err(format!("token {token} of '{package}' is not above {released}, which was released here"));
        }
        if let Some(largest) = self.largest.get(package).filter(|largest| token < **largest) {
            return Err(format!("token {token} of '{package}' is below {largest}, which was seen here"));
        }
        self.largest.insert(package.clone(), token);
        Ok(())
    }

    /// Records a token as released; a smaller one changes nothing.
    pub fn release(&mut self, package: &PackageName, token: Token) {
        if !self.rules.hold(Rule::ReleasedToken) {
            return;
        }
        for map in [&mut self.released, &mut self.largest] {
            let known = map.entry(package.clone()).or_default();
            *known = token.max(*known);
        }
    }

    /// Released token per package.
    pub fn released(&self) -> &BTreeMap<PackageName, Token> {
        &self.released
    }

    /// Largest token seen per package.
    pub fn largest(&self) -> &BTreeMap<PackageName, Token> {
        &self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_at_or_below_a_released_one_is_refused() {
        let (mut tokens, p) = (Tokens::default(), PackageName::new("p").unwrap());
        assert!(tokens.admit(&p, Token(5)).is_ok());
        assert!(tokens.admit(&p, Token(5)).is_ok(), "a second resource of the same ownership");
        tokens.release(&p, Token(5));
        assert!(tokens.admit(&p, Token(5)).is_err());
        assert!(tokens.admit(&p, Token(4)).is_err());
        assert!(tokens.admit(&p, Token(6)).is_ok());
    }

    #[test]
    fn a_token_below_the_largest_seen_is_refused_although_nothing_was_released() {
        let (mut tokens, p) = (Tokens::default(), PackageName::new("p").unwrap());
        tokens.admit(&p, Token(9)).unwrap();
        assert!(tokens.admit(&p, Token(8)).is_err());
        assert!(tokens.admit(&PackageName::new("q").unwrap(), Token(1)).is_ok(), "another package");
    }

    #[test]
    fn an_older_release_does_not_lower_what_was_released() {
        let (mut tokens, p) = (Tokens::default(), PackageName::new("p").unwrap());
        tokens.release(&p, Token(7));
        tokens.release(&p, Token(3));
        assert!(tokens.admit(&p, Token(7)).is_err());
    }
}
