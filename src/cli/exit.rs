//! Exit codes, and what a verb that did not succeed says.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it was tried and did not come to the outcome asked for |
//! | 2 | the command line or a file is not usable; nothing was changed |
//! | 3 | no agent, or no leader, could be reached; nothing was changed |
//! | 4 | the cluster refused it; nothing was changed |
//! | 5 | it is still under way after the time to wait |
//! | 6 | it may or may not have been done: the answer was lost |
//! | 7 | something is to be done by hand first, and is printed; nothing was changed |
//! | 10 | `kv`: no such key; nothing was changed |
//! | 11 | `kv set --new`: the key has a value; nothing was changed |
//! | 12 | `kv`: the condition does not hold |

use std::process::ExitCode;

use crate::net::introduction::SecretError;

/// A verb that did not succeed.
#[derive(Debug)]
pub struct Failed {
    code: u8,
    /// What happened, what still holds, what to do next.
    pub message: String,
    /// The code in an agent's refusal, if one refused it.
    refused: Option<String>,
}

impl From<SecretError> for Failed {
    fn from(error: SecretError) -> Self {
        Self::usage(error.to_string())
    }
}

impl Failed {
    fn new(code: u8, message: String) -> Self {
        Self { code, message, refused: None }
    }

    /// It came to another outcome.
    pub fn outcome(message: String) -> Self {
        Self::new(1, message)
    }

    /// The command line or a file is not usable.
    pub fn usage(message: String) -> Self {
        Self::new(2, message)
    }

    /// Nobody answers.
    pub fn unreachable(message: String) -> Self {
        Self::new(3, message)
    }

    /// The cluster refused it.
    pub fn rejected(message: String) -> Self {
        Self::new(4, message)
    }

    /// Still under way.
    pub fn waiting(message: String) -> Self {
        Self::new(5, message)
    }

    /// The outcome is not known.
    pub fn unknown(message: String) -> Self {
        Self::new(6, message)
    }

    /// Somebody must do something by hand first, which the message says.
    pub fn by_hand(message: String) -> Self {
        Self::new(7, message)
    }

    /// The same with what else is to be said.
    pub fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// A key has no value.
    pub fn no_such_key(message: String) -> Self {
        Self::new(10, message)
    }

    /// A key that should be new has a value.
    pub fn already_set(message: String) -> Self {
        Self::new(11, message)
    }

    /// A condition does not hold.
    pub fn unmet(message: String) -> Self {
        Self::new(12, message)
    }

    /// The same with the code in an agent's refusal, if that has one.
    pub fn with_code(mut self, code: Option<String>) -> Self {
        self.refused = code;
        self
    }

    /// What kind of failure it is, in a word for machines: an agent's own where one refused it.
    pub fn word(&self) -> &str {
        match (self.refused.as_deref(), self.code) {
            (Some(word), _) => word,
            (_, 2) => "usage",
            (_, 3) => "unreachable",
            (_, 4) => "refused",
            (_, 5) => "under_way",
            (_, 6) => "unknown_outcome",
            (_, 7) => "by_hand",
            (_, 10) => "no_such_key",
            (_, 11) => "exists",
            (_, 12) => "unmet",
            (_, _) => "outcome",
        }
    }

    /// Whether an agent refused it with one of these codes.
    pub fn is_any_of(&self, codes: &[&str]) -> bool {
        self.refused.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether an agent answered, and refused it.
    pub fn is_refusal(&self) -> bool {
        self.code == 4
    }

    /// The process's exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The same as a number, for `--json`.
    pub fn number(&self) -> u8 {
        self.code
    }
}
