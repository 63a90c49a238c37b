//! The units that `hack/up --systemd` installs say what systemd understands.

use std::process::Command;

#[test]
fn units_verify_clean() {
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/systemd");
    let folder = tempfile::tempdir().unwrap();
    let mut checked = Vec::new();
    for entry in std::fs::read_dir(units).unwrap().flatten() {
        if entry.path().extension().is_none_or(|it| it != "service") {
            continue;
        }
        // The programs need not be installed for the units to be right.
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let lines: Vec<String> = text
            .lines()
            .map(|line| match line.strip_prefix("ExecStart=").and_then(|it| it.split_once(' ')) {
                Some((_, arguments)) => format!("ExecStart=/bin/true {arguments}"),
                None => line.to_owned(),
            })
            .collect();
        let copy = folder.path().join(entry.file_name());
        std::fs::write(&copy, lines.join("\n")).unwrap();
        checked.push(copy);
    }
    assert_eq!(checked.len(), 3, "{checked:?}");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&checked).output();
    let output = output.expect("run systemd-analyze (Debian: systemd)");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.trim().is_empty(), "{text}");
}
