//! Builds the images that a cluster without a registry needs: `pause`, which every sandbox runs, and `demo`, a small
//! web server with a shell, for first steps and for the tests.

mod oci;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;

use oci::{Layer, Run, write_image};

/// The pause program, compiled by build.rs.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Build the pause and demo images as archives.
#[derive(Parser)]
struct Args {
    /// Folder for the archives.
    #[arg(long)]
    out: PathBuf,
    /// The statically linked shell of the demo image.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The demo server; by default beside this program.
    #[arg(long)]
    demo: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out).with_context(|| format!("make {}", args.out.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    pause(&args.out.join("pause.tar"), &format!("localhost/coracle/pause:{version}"))?;
    let demo_program = match args.demo {
        Some(path) => path,
        None => std::env::current_exe().context("find this program")?.with_file_name("coracle-demo"),
    };
    demo(
        &args.out.join("demo.tar"),
        &format!("localhost/coracle/demo:{version}"),
        &args.busybox,
        &demo_program,
    )
}

fn pause(archive: &Path, name: &str) -> Result<()> {
    let mut layer = Layer::new();
    layer.file("pause", 0o755, PAUSE)?;
    write_image(archive, name, layer, &Run { entrypoint: &["/pause"], command: &[], env: &[], ports: &[] })
}

fn demo(archive: &Path, name: &str, busybox: &Path, program: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut layer = Layer::new();
    for folder in ["bin", "etc", "lib", "lib64", "proc", "sys", "dev", "root", "run", "var"] {
        layer.folder(&format!("{folder}/"), 0o755)?;
    }
    layer.folder("tmp/", 0o1777)?;
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    layer.file("bin/busybox", 0o755, &read(busybox)?)?;
    for applet in applets(busybox)? {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file("bin/demo", 0o755, &read(program)?)?;
    for library in libraries(program)? {
        layer.file(library.to_string_lossy().trim_start_matches('/'), 0o755, &read(&library)?)?;
    }
    let run =
        Run { entrypoint: &["/bin/demo"], command: &["serve"], env: &["PATH=/bin"], ports: &["8080/tcp"] };
    write_image(archive, name, layer, &run)
}

/// The commands that this busybox was built with.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox)
        .arg("--list")
        .output()
        .with_context(|| format!("run {} --list (Debian: busybox-static)", busybox.display()))?;
    let list = String::from_utf8(output.stdout).context("read busybox's list of commands")?;
    Ok(list.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

/// The shared libraries that `program` loads, its loader among them, by the paths at which it looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8(output.stdout).context("read ldd's answer")?;
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(libraries_of(&text))
}

/// Lines are `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries_of(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_both_forms_of_line() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries_of(ldd), expected);
    }

    #[test]
    fn the_pause_program_is_small() {
        assert!(PAUSE.len() < 32 * 1024, "{} bytes", PAUSE.len());
    }
}
