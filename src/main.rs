//! siemgate: parse the arguments and call the command. See the library for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    siemgate::cli::main()
}
