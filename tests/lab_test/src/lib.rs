//! `#[lab]` instead of `#[test]`: the test is run by `crate::machine::running`.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes `fn name() { … }` a test whose body is handed to `crate::machine::running`.
#[proc_macro_attribute]
pub fn lab(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let Some(TokenTree::Group(body)) = tokens.pop() else {
        return "compile_error!(\"#[lab] is for a function\");".parse().unwrap_or_default();
    };
    let closure: TokenStream = [TokenTree::Group(body)].into_iter().collect();
    let mut call: TokenStream = "crate::machine::running".parse().unwrap_or_default();
    let mut argument: TokenStream = "||".parse().unwrap_or_default();
    argument.extend(closure);
    call.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, argument))]);
    let mut test: TokenStream = "#[test]".parse().unwrap_or_default();
    test.extend(tokens);
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, call))]);
    test
}
