//! Which logs a command of `siemgate log` is about, and whose they are.
//!
//! Guarantees: works without a readable configuration if it is told a folder; writes nothing into
//! the folder of another user, who could not read it afterwards.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{Exit, failed, tell_problems};
use crate::app::Whereabouts;
use crate::core::log::verify::is_log;
use crate::core::log::{Disk, RealDisk};

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The folder of one log, or the one that holds them all; needs no configuration.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only this log: log, dead, quarantine. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// A log's folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub name: String,
    pub dir: PathBuf,
}

impl Place {
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::existing(&self.dir))
    }
}

impl Which {
    /// The logs that are there.
    pub fn logs(&self, config: &Path) -> Result<Vec<Place>, Exit> {
        let (mut found, place) = match &self.dir {
            Some(dir) => (in_folder(dir), dir.clone()),
            None => configured(&whereabouts(config)?),
        };
        if found.is_empty() {
            return Err(failed(format!("there is no log in {}", place.display())));
        }
        if let Some(missing) = self.only.iter().find(|name| found.iter().all(|f| f.name != **name))
        {
            let known: Vec<_> = found.iter().map(|place| &*place.name).collect();
            return Err(failed(format!("there is no log {missing}; known: {}", known.join(", "))));
        }
        found.retain(|place| self.takes(&place.name));
        Ok(found)
    }

    pub fn takes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Where logs of these names are to be made.
    pub fn to_fill(&self, config: &Path, names: Vec<String>) -> Result<Vec<Place>, Exit> {
        let found = self.dir.is_none().then(|| whereabouts(config)).transpose()?;
        let dir = |name: &str| match (&self.dir, &found) {
            (Some(dir), _) => dir.join(name),
            (None, Some(found)) => found.log(name),
            (None, None) => PathBuf::from(name),
        };
        Ok(names.into_iter().map(|name| Place { dir: dir(&name), name }).collect())
    }
}

fn whereabouts(config: &Path) -> Result<Whereabouts, Exit> {
    match Whereabouts::read(config) {
        Ok(found) if !found.on_disk() => {
            Err(failed("log.engine is memory: there are no logs on disk"))
        }
        Ok(found) => Ok(found),
        Err(problems) => {
            tell_problems(&problems);
            eprintln!("with --dir DIR the logs are found without a configuration.");
            Err(Exit::Config)
        }
    }
}

fn configured(found: &Whereabouts) -> (Vec<Place>, PathBuf) {
    let place = |name: &str| Place { name: name.to_owned(), dir: found.log(name) };
    let mut places: Vec<Place> = ["log", "dead", "quarantine"].map(place).into();
    places.retain(|place| is_log(&*place.disk()));
    for other in below(found.data()) {
        if places.iter().all(|known| known.dir != other.dir && known.name != other.name) {
            places.push(other);
        }
    }
    (places, found.log("log"))
}

fn in_folder(dir: &Path) -> Vec<Place> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let one = Place { name: name.unwrap_or_else(|| "log".into()), dir: dir.to_owned() };
    if is_log(&*one.disk()) { vec![one] } else { below(dir) }
}

/// The folders in `dir` that hold a log.
fn below(dir: &Path) -> Vec<Place> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let place = |entry: std::fs::DirEntry| Place {
        name: entry.file_name().to_string_lossy().into_owned(),
        dir: entry.path(),
    };
    let mut places: Vec<Place> =
        entries.map(place).filter(|place| is_log(&*place.disk())).collect();
    places.sort_by(|a, b| a.name.cmp(&b.name));
    places
}

/// Refuse to write into `dir`, or the folder it is to be made in, if it is another user's.
pub(super) fn is_ours(dir: &Path) -> Result<(), Exit> {
    let absolute = std::path::absolute(dir).map_err(failed)?;
    let nearest = absolute.ancestors().find_map(|dir| Some((dir, dir.metadata().ok()?)));
    let Some((nearest, facts)) = nearest else { return Ok(()) };
    let (owner, we) = (facts.uid(), rustix::process::geteuid().as_raw());
    if owner == we {
        return Ok(());
    }
    Err(failed(format!(
        "{} belongs to user {owner}, who could not read what this writes: run it as that user (sudo -u '#{owner}' siemgate ...)",
        nearest.display()
    )))
}
