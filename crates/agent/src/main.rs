//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::run(std::env::args_os().skip(1))
}
