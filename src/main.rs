//! The `eventflux` program: arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    eventflux::cli::main(std::env::args_os()).into()
}
