//! What a fence agent says of itself: the parameters it takes, the actions it knows. Read from its XML by a scanner that
//! looks at tags and attributes only, because that is all that is needed, and takes anything for an answer.

use std::collections::BTreeSet;

use super::{FenceAction, FenceDevice};
use crate::package::file::suggest::{choice, nearest};

/// Longest metadata read, in bytes; the longest of an agent known are a tenth of it.
pub const METADATA_MAX_BYTES: usize = 256 << 10;
/// Parameters read at most.
const PARAMETERS_MAX: usize = 500;

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its actions.
    pub actions: BTreeSet<String>,
}

/// One parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it must be given.
    pub required: bool,
    /// Its older name, which is still taken.
    pub obsoletes: Option<String>,
    /// Whether the agent has a value of its own for it.
    pub has_default: bool,
}

impl Metadata {
    /// Reads what an agent printed; none when that is no metadata.
    pub fn read(text: &str) -> Option<Self> {
        let mut metadata = Self::default();
        for tag in tags(text) {
            match tag.name {
                "parameter" if metadata.parameters.len() < PARAMETERS_MAX => {
                    let name = tag.attribute("name")?.to_owned();
                    let required = tag.attribute("required") == Some("1") && tag.attribute("deprecated") != Some("1");
                    let obsoletes = tag.attribute("obsoletes").map(str::to_owned);
                    metadata.parameters.push(Parameter { name, required, obsoletes, has_default: false });
                }
                "content" => {
                    if let Some(last) = metadata.parameters.last_mut() {
                        last.has_default |= tag.attribute("default").is_some();
                    }
                }
                "action" => metadata.actions.extend(tag.attribute("name").map(str::to_owned)),
                _ => {}
            }
        }
        (!metadata.actions.is_empty()).then_some(metadata)
    }

    /// Everything that is wrong with a device for this agent, a sentence each.
    pub fn problems(&self, device: &FenceDevice) -> Vec<String> {
        let known: Vec<&str> = self.parameters.iter().map(|p| p.name.as_str()).collect();
        let given = |name: &str| device.options.contains_key(name);
        let mut problems = Vec::new();
        for name in device.options.keys().filter(|name| !known.contains(&name.as_str())) {
            let remedy = match nearest(name, &known) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("it takes {}", choice(&known)),
            };
            problems.push(format!("{} has no option '{name}'; {remedy}", device.agent));
        }
        let missing = |p: &&Parameter| {
            let alias = p.obsoletes.as_deref().is_some_and(given);
            p.required && !p.has_default && p.name != "action" && !given(&p.name) && !alias
        };
        for parameter in self.parameters.iter().filter(missing) {
            problems.push(format!("{} needs the option '{}'", device.agent, parameter.name));
        }
        let needed: &[&str] = match device.action {
            FenceAction::Off => &["off", "status"],
            FenceAction::Reboot => &["reboot"],
        };
        for action in needed.iter().filter(|action| !self.actions.contains(**action)) {
            problems.push(format!("{} does not know the action '{action}'", device.agent));
        }
        problems
    }
}

/// A tag with its attributes as written.
struct Tag<'t> {
    name: &'t str,
    attributes: &'t str,
}

impl Tag<'_> {
    /// An attribute's value; entities stay as they are, because names have none.
    fn attribute(&self, name: &str) -> Option<&str> {
        let mut rest = self.attributes;
        loop {
            let (key, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, further) = after[1..].split_once(quote)?;
            if key.trim() == name {
                return Some(value);
            }
            rest = further;
        }
    }
}

/// The opening tags of a text, in order.
fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    text.split('<').skip(1).filter_map(|piece| {
        let inside = piece.split_once('>').map_or(piece, |(inside, _)| inside).trim_end_matches('/');
        let end = inside.find(|c: char| c.is_ascii_whitespace()).unwrap_or(inside.len());
        let (name, attributes) = inside.split_at(end);
        (!name.is_empty() && !name.starts_with(['/', '?', '!'])).then_some(Tag { name, attributes })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::package::Millis;

    const SOME: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_x" shortdesc="x">
<parameters>
  <parameter name="action" unique="0" required="1"><content type="string" default="reboot" /></parameter>
  <parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
  <parameter name="ipaddr" required="1" deprecated="1"><content type="string"/></parameter>
  <parameter name="username" required="0"><content type="string"/></parameter>
  <parameter name="plug" required="1"><content type="string" default="1"/></parameter>
</parameters>
<actions><action name="on" automatic="0"/><action name="off"/><action name='status'/></actions>
</resource-agent>"#;

    fn device(options: &[&str], action: FenceAction) -> FenceDevice {
        let options = options.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        FenceDevice { agent: "/x/fence_x".into(), options, action, timeout: Millis(1), delay: Millis(0) }
    }

    #[test]
    fn parameters_and_actions_are_read() {
        let read = Metadata::read(SOME).unwrap();
        let names: Vec<&str> = read.parameters.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["action", "ip", "ipaddr", "username", "plug"]);
        assert!(read.parameters[1].required && !read.parameters[1].has_default && read.parameters[4].has_default);
        assert_eq!(read.actions.iter().map(String::as_str).collect::<Vec<_>>(), ["off", "on", "status"]);
    }

    #[test]
    fn every_wrong_option_is_told_at_once() {
        let read = Metadata::read(SOME).unwrap();
        let problems = read.problems(&device(&["usernam", "zzz"], FenceAction::Reboot));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("did you mean 'username'?"), "{problems:?}");
        assert!(problems[2].contains("needs the option 'ip'"), "{problems:?}");
        assert!(problems[3].contains("action 'reboot'"), "{problems:?}");
    }

    #[test]
    fn a_required_option_may_be_given_by_its_older_name() {
        let read = Metadata::read(SOME).unwrap();
        assert_eq!(read.problems(&device(&["ip"], FenceAction::Off)), [""; 0]);
        assert_eq!(read.problems(&device(&["ipaddr"], FenceAction::Off)), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "(<|>|=|'|\"|/| |parameter|action|name|content|default|ä|[a-z]){0,60}") {
            let read = Metadata::read(&text);
            prop_assert!(read.is_none_or(|read| !read.actions.is_empty()));
        }
    }

    #[test]
    fn whatever_is_no_metadata_is_none() {
        for text in
            ["", "<", "<<<>>>", "Traceback (most recent call last):", "<parameter>", "<action name=>", "<a b='c"]
        {
            assert_eq!(Metadata::read(text), None, "{text}");
        }
    }
}
