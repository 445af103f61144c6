//! The units in systemd/ as `systemd-analyze verify` sees them, with the binary installed in a scratch root.

use std::path::Path;
use std::process::Command;

use pkgctl::service::EXIT_DISK_FAILED;

#[test]
fn systemd_accepts_both_units() {
    let scratch = tempfile::tempdir().unwrap();
    let binary = scratch.path().join("pkgctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pkgctl"), &binary).unwrap();
    let mut units = vec![];
    for name in ["pkgctl-keeper.service", "pkgctl-agent.service"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
        let text = std::fs::read_to_string(source).unwrap();
        assert!(text.contains("/usr/bin/pkgctl "), "{name} runs the installed binary");
        let kept = format!("RestartPreventExitStatus={EXIT_DISK_FAILED}");
        assert!(text.contains("\nType=notify\n") && (name != "pkgctl-agent.service" || text.contains(&kept)), "{name}");
        for namespace in ["PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateMounts", "ReadOnlyPaths"] {
            let set = text.lines().any(|l| l.starts_with(&format!("{namespace}=")));
            assert!(!set, "{name}: {namespace} would give it a mount namespace of its own");
        }
        let unit = scratch.path().join(name);
        std::fs::write(&unit, text.replace("/usr/bin/pkgctl", binary.to_str().unwrap())).unwrap();
        units.push(unit);
    }
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output();
    let Ok(output) = verify else {
        eprintln!("skipped 1 test of the units: systemd-analyze is not installed (Debian package systemd)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("pkgctl")).collect();
    assert!(ours.is_empty() && (output.status.success() || !said.contains("pkgctl")), "{said}");
}
