//! `coracle-cni`: every plugin in one binary; the name it is called by chooses.
use std::process::ExitCode;

fn main() -> ExitCode {
    coracle_cni::plugins::main()
}
