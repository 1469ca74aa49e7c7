//! `siemgate secret …`: keys and tokens in files of their own.
//!
//! Guarantees: a value comes in by standard input only, so that it is in no process list and no
//! shell history, and goes into one file for the owner; it is never printed.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Exit, failed, tell_problems};
use crate::app::{SecretUse, secrets};
use crate::core::config::secret_file;

/// More is not a secret; reading on would only fill the memory.
const MOST: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a secret into a file that only its owner can read.
    ///
    /// The secret comes in by standard input; at a terminal it is asked for, and what is typed is not
    /// shown. Prints how the configuration refers to the file.
    Set(Set),
    /// List the secrets that the configuration refers to, and whether each can be read.
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// Its name, which becomes the file's: letters, digits, `-`, `_` and `.`.
    name: String,
    /// The folder; `secrets` beside the configuration folder unless given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, command: &Command) -> Exit {
    match command {
        Command::Set(secret) => set(config, secret).err().unwrap_or(Exit::Ok),
        Command::List(list) => listed(config, list),
    }
}

fn folder(config: &Path) -> PathBuf {
    config.with_file_name("secrets")
}

fn set(config: &Path, secret: &Set) -> Result<(), Exit> {
    let dir = secret.dir.clone().unwrap_or_else(|| folder(config));
    let dir = std::path::absolute(dir).map_err(failed)?;
    let value = asked(&secret.name)?;
    let known = secret_file::stored(&dir).contains(&secret.name);
    let file = secret_file::store(&dir, &secret.name, &value).map_err(failed)?;
    println!("{} {}", if known { "replaced" } else { "written:" }, file.display());
    println!("refer to it in config.d as {{ file = \"{}\" }}", file.display());
    if known {
        println!("a running gateway uses it after `siemgate reload`");
    }
    Ok(())
}

/// The value: typed unseen at a terminal, else all of standard input.
fn asked(name: &str) -> Result<String, Exit> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("{name} (not shown): ")).map_err(failed);
    }
    let mut bytes = Vec::new();
    std::io::stdin().take(MOST).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed("the secret is not text (UTF-8)"))
}

fn listed(config: &Path, list: &List) -> Exit {
    let used = match secrets(config) {
        Ok(used) => used,
        Err(problems) => {
            tell_problems(&problems);
            return Exit::Config;
        }
    };
    let dir = std::path::absolute(folder(config)).unwrap_or_else(|_| folder(config));
    let unused = unused(&dir, &used);
    if list.json {
        let used: Vec<Value> = used.iter().map(facts).collect();
        println!("{:#}", json!({ "secrets": used, "unused": unused }));
    } else {
        used.iter().for_each(|secret| println!("{}", line(secret)));
        if used.is_empty() {
            println!("the configuration refers to no secret");
        }
        unused.iter().for_each(|file| println!("not referred to: {}", file.display()));
    }
    if used.iter().all(|secret| secret.trouble.is_none()) { Exit::Ok } else { Exit::Failed }
}

/// Files that `secret set` wrote and nothing refers to.
fn unused(dir: &Path, used: &[SecretUse]) -> Vec<PathBuf> {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let files = used.iter().filter(|secret| secret.kind == "file");
    let known: Vec<PathBuf> = files.map(|secret| whole(Path::new(&secret.name))).collect();
    let stored = secret_file::stored(dir).into_iter().map(|name| dir.join(name));
    stored.filter(|file| !known.contains(file)).collect()
}

fn facts(secret: &SecretUse) -> Value {
    json!({
        "key": secret.key, "kind": secret.kind, "name": secret.name,
        "place": secret.place.as_ref().map(ToString::to_string),
        "good": secret.trouble.is_none(), "trouble": secret.trouble,
    })
}

fn line(secret: &SecretUse) -> String {
    let good = secret.trouble.as_deref().unwrap_or("good");
    format!("{:<28} {} {}: {good}", secret.key, secret.kind, secret.name)
}
