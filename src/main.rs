<<<<<<< HEAD
//! siemgate: parse the arguments and call the command. See the library for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    siemgate::cli::main()
}
=======
fn main() {}
>>>>>>> d575b26 (Test retention, locks and limits of the log; store cursors again once a file was freed)
