//! Compiles pause/pause.rs apart from the workspace: it has no standard library and must stay tiny and static.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=pause/pause.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "-C", "panic=abort", "-C", "opt-level=s"])
        .args(["-C", "strip=symbols", "-C", "relocation-model=static", "-C", "link-arg=-nostartfiles"])
        .args(["-C", "link-arg=-nostdlib", "-C", "link-arg=-static", "-C", "link-arg=-Wl,--build-id=none"])
        .arg("pause/pause.rs")
        .arg("-o")
        .arg(&out)
        .status()
        .expect("run rustc for the pause program");
    assert!(status.success(), "the pause program does not compile");
}
