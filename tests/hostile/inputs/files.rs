//! Files that an operator writes: packages and the agent's configuration.

use pkgctl::config::Config;
use pkgctl::package::problem::PROBLEMS_MAX;
use pkgctl::package::{Problems, check, parse};

/// A package is read whole or refused with places that are in the file; one that was read is a valid definition.
pub fn package(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match parse("p.toml", &text) {
        Ok(package) => assert_eq!(check(&package), Vec::<String>::new(), "it does not read back"),
        Err(problems) => return sound(&problems, &text),
    }
    true
}

/// The same for a configuration.
pub fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse("agent.toml", &text) {
        Ok(config) => assert!(config.listen.is_none_or(|at| at.port() != 0)),
        Err(problems) => return sound(&problems, &text),
    }
    true
}

/// Every problem lies in the file, and none of them can steer the terminal it is shown on.
fn sound(problems: &Problems, text: &str) -> bool {
    assert!((1..=PROBLEMS_MAX).contains(&problems.problems.len()), "{}", problems.problems.len());
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &problems.problems {
        let Some(line) = problem.line.checked_sub(1).and_then(|at| lines.get(at)) else {
            panic!("line {} of {}: {}", problem.line, lines.len(), problem.what);
        };
        let columns = line.chars().count() + 1;
        assert!((1..=columns).contains(&problem.column), "column {} of {columns}: {problem:?}", problem.column);
        assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
    let places: Vec<_> = problems.problems.iter().map(|p| (p.line, p.column)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let shown = problems.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    false
}

pub fn package_seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../pkg-templates/nginx.toml"),
        include_str!("../../../pkg-templates/storage.toml"),
        include_str!("../../../pkg-templates/postgresql.toml"),
        "name = \"p\"\nnodes = [\"n1\", \"n2\"]\n[[resource]]\nkind = \"ip\"\naddress = \"fd00::7/64\"\ndevice = \"eth0\"\n",
        "name = \"p\"\nnodes = [\"n1\"]\n[[resource]]\nkind = \"program\"\ncommand = [\"/bin/x\", \"-f\"]\nuser = \"www\"\n\
         environment = { A = \"b\" }\nstop_signal = \"SIGINT\"\nrestart_window = \"1m30s\"\nrestarts = 3\n",
        "name = 7\nnodes = []\nadress = 1\n[[resource]]\nkind = \"lun\"\n[resource\n\"\"\"\u{1b}[2J\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub fn config_seeds() -> Vec<Vec<u8>> {
    let example = include_str!("../../../conf/agent.toml");
    let commented: String = example.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l).to_owned() + "\n").collect();
    vec![commented.into_bytes(), b"listen = \"[fd00::1]\"\nlinks = [\"x\"]\nagent_grace = \"1s\"\n".to_vec()]
}
