//! `siemgate man` and `siemgate completions`: the help as manual pages, and for shells.
//!
//! Guarantees: both are made of the same definitions as `--help`, so they cannot say anything else.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Exit, failed, print};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell: bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Folder for the pages, one a command: siemgate.1, siemgate-check.1 and so on. Without it the
    /// page of siemgate itself goes to standard output.
    dir: Option<PathBuf>,
}

/// Print completions, for the shell's own folder of them.
pub(super) fn completions(arguments: &Completions) -> Exit {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "siemgate", &mut script);
    print(&script)
}

/// Write the manual pages.
pub(super) fn man(arguments: &Man) -> Exit {
    let command = super::Arguments::command().disable_help_subcommand(true);
    match &arguments.dir {
        Some(dir) => written(command, dir).map_or_else(failed, |()| Exit::Ok),
        None => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(command).render(&mut page) {
                Ok(()) => print(&page),
                Err(error) => failed(error),
            }
        }
    }
}

fn written(mut command: clap::Command, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    command.build();
    pages(&command, dir)
}

fn pages(command: &clap::Command, dir: &Path) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut file = std::fs::File::create(dir.join(page.get_filename()))?;
    page.render(&mut file)?;
    file.flush()?;
    let mut commands = command.get_subcommands().filter(|command| command.get_name() != "help");
    commands.try_for_each(|command| pages(command, dir))
}
