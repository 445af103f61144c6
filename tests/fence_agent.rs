//! A real fence agent, `fence_dummy` of Debian's fence-agents, as pkgctl runs any: it keeps the state of its machine in a
//! file. Without it every test here says so and passes.

use std::path::Path;
use std::time::Duration;

use pkgctl::engine::fence::call::{CODE_OFF, CODE_ON, FenceSaid};
use pkgctl::engine::fence::metadata::Metadata;
use pkgctl::engine::fence::{FenceAction, FenceDevice, TIMEOUT_DEFAULT};
use pkgctl::host::fence_agent::{Keep, run};
use pkgctl::package::{Millis, NodeName};

const AGENT: &str = "/usr/sbin/fence_dummy";

fn is_there() -> bool {
    let there = Path::new(AGENT).exists();
    if !there {
        println!("SKIPPED: {AGENT} is not there (apt install fence-agents)");
    }
    there
}

fn device(options: &[(&str, &str)]) -> FenceDevice {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    FenceDevice {
        agent: AGENT.to_owned(),
        options,
        action: FenceAction::Off,
        timeout: TIMEOUT_DEFAULT,
        delay: Millis(0),
    }
}

async fn say(device: &FenceDevice, action: &str) -> FenceSaid {
    let input = device.input(&NodeName::new("n1").unwrap(), action);
    run(AGENT, &input, Duration::from_secs(60), Keep::End).await
}

fn code(said: &FenceSaid) -> i32 {
    let FenceSaid::Ran { code, .. } = said else { panic!("{said:?}") };
    *code
}

#[tokio::test]
async fn a_real_agents_metadata_tell_good_options_from_bad_ones() {
    if !is_there() {
        return;
    }
    let said = run(AGENT, "action=metadata\n", Duration::from_secs(60), Keep::Beginning).await;
    let FenceSaid::Ran { code: 0, output } = said else { panic!("{said:?}") };
    let metadata = Metadata::read(&output).expect("metadata");
    assert_eq!(metadata.problems(&device(&[("status_file", "/tmp/x"), ("verbose", "1")])), [""; 0]);
    let bad = metadata.problems(&device(&[("statusfile", "/tmp/x"), ("plague", "1")]));
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad.iter().any(|problem| problem.contains("did you mean 'status_file'?")), "{bad:?}");
}

#[tokio::test]
async fn a_real_agent_switches_off_and_on_and_says_which_it_is() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("status");
    let device = device(&[("status_file", file.to_str().unwrap())]);
    assert_eq!(code(&say(&device, "on").await), 0);
    assert_eq!(code(&say(&device, "status").await), CODE_ON);
    assert_eq!(code(&say(&device, "monitor").await), 0);
    assert_eq!(code(&say(&device, "off").await), 0);
    assert_eq!(code(&say(&device, "status").await), CODE_OFF);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "off");
}

#[tokio::test]
async fn what_a_real_agent_says_of_a_failure_is_kept() {
    if !is_there() {
        return;
    }
    let said = say(&device(&[("status_file", "/no/such/directory/status"), ("power_timeout", "1")]), "on").await;
    let FenceSaid::Ran { code, output } = said else { panic!("{said:?}") };
    assert_ne!(code, 0);
    println!("it said: {output}");
    assert!(output.contains("/no/such/directory"), "{output}");
}
