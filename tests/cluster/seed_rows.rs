//! The tables of docs/seeds.md as lines to be typed.

const PAGE: &str = include_str!("../../docs/seeds.md");

/// A line of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is typed.
    pub line: String,
    pub typed: Typed,
    /// With which code it ends; of a program that goes on, nothing.
    pub code: i32,
    /// Words that it prints.
    pub words: String,
}

/// How.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Nothing,
    /// At the question of the program that was started last.
    Answer,
    Once {
        on: String,
    },
    /// It goes on.
    Stays {
        on: String,
    },
}

/// The rows below a heading.
pub fn rows(heading: &str) -> Vec<Row> {
    let begin = PAGE.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_default();
    let section = begin.split("\n## ").next().unwrap_or_default();
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [_, on, typed, answers, _] = cells[..] else { panic!("docs/seeds.md: {} cells in {line}", cells.len()) };
    let quoted: Vec<&str> = answers.split('`').skip(1).step_by(2).collect();
    let line = typed.trim_matches('`').to_owned();
    let stays = on.ends_with('&') || on == "answer";
    let (code, words) = match (stays, &quoted[..]) {
        (true, [words]) => (0, (*words).to_owned()),
        (false, [code]) => (code.parse().expect("an exit code"), String::new()),
        (false, [code, words]) => (code.parse().expect("an exit code"), (*words).to_owned()),
        (false, []) if on == "-" => (0, String::new()),
        _ => panic!("docs/seeds.md: '{answers}' is not what a line answers"),
    };
    let typed = match on {
        "-" => Typed::Nothing,
        "answer" => Typed::Answer,
        _ => match on.strip_suffix('&') {
            Some(on) => Typed::Stays { on: on.trim().to_owned() },
            None => Typed::Once { on: on.to_owned() },
        },
    };
    assert_eq!(typed == Typed::Nothing, line.is_empty(), "docs/seeds.md: {on} types '{line}'");
    Row { line, typed, code, words }
}
