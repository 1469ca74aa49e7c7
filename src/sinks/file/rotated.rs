//! The rotated files beside the current one: their names, their compression, their total.
//!
//! Guarantees: names sort by age; a crash at any point loses nothing and leaves nothing that the
//! next run does not clean up; only files named exactly so are ever touched. Compression runs
//! beside delivery, one file at a time.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::{JoinHandle, spawn_blocking};

use super::writer::{folder, sync_folder};
use crate::core::Timestamp;

/// The rotated files of one path: `STEM-20260131T000000Z-000.EXT`, with `.gz` when compressed.
#[derive(Clone)]
pub struct Series {
    folder: PathBuf,
    stem: String,
    /// With its dot; may be empty.
    extension: String,
}

/// A rotated file, ordered by age.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rotated {
    stamp: String,
    number: u32,
    form: Form,
    path: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Plain,
    Gzip,
    /// Compression was interrupted.
    Half,
}

impl Series {
    /// The series of the file at `path`.
    pub fn of(path: &Path) -> Self {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().map(|_| format!(".{}", text(path.extension())));
        Self {
            folder: folder(path).to_owned(),
            stem: text(path.file_stem()),
            extension: extension.unwrap_or_default(),
        }
    }

    /// Move the current file out of the way.
    pub fn rotate(&self, current: &Path, now: Timestamp) -> io::Result<()> {
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let taken = self.files()?.into_iter().filter(|file| file.stamp == stamp);
        let number = taken.map(|file| file.number + 1).max().unwrap_or(0);
        let name = format!("{}-{stamp}-{number:03}{}", self.stem, self.extension);
        fs::rename(current, self.folder.join(name))?;
        sync_folder(&self.folder)
    }

    /// Clean up, compress, and keep the total even where compressing fails: the disk may be full.
    fn tidy(&self, gzip: bool, keep: u64) -> io::Result<()> {
        self.clean()?;
        // What is rotated meanwhile is left to the next run, which compresses before it counts.
        let mut files = self.files()?;
        let mut plain = files.iter_mut().filter(|file| gzip && file.form == Form::Plain);
        let compressed = plain.try_for_each(|file| {
            file.path = compress(&file.path)?;
            Ok(())
        });
        trim(&files, keep).and(compressed)
    }

    /// Remove what an interrupted compression left: half a result, or the original of a whole one.
    fn clean(&self) -> io::Result<()> {
        for file in self.files()? {
            let done = file.form == Form::Plain && added(&file.path, ".gz").exists();
            if done || file.form == Form::Half {
                fs::remove_file(&file.path)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<Rotated>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.extend(self.read(&entry.file_name().to_string_lossy()).map(|found| {
                let (stamp, number, form) = found;
                Rotated { stamp, number, form, path: entry.path() }
            }));
        }
        files.sort();
        Ok(files)
    }

    /// Take a name apart, if it is one of ours.
    fn read(&self, name: &str) -> Option<(String, u32, Form)> {
        let (name, form) = match (name.strip_suffix(".gz.tmp"), name.strip_suffix(".gz")) {
            (Some(name), _) => (name, Form::Half),
            (_, Some(name)) => (name, Form::Gzip),
            _ => (name, Form::Plain),
        };
        let rest = name.strip_prefix(&self.stem)?.strip_prefix('-')?;
        let (stamp, number) = rest.strip_suffix(&self.extension)?.split_once('-')?;
        let shape: String =
            stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let numbered = number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        let ours = shape == "00000000T000000Z" && numbered;
        ours.then(|| Some((stamp.to_owned(), number.parse().ok()?, form)))?
    }
}

/// Delete the oldest files beyond `keep` bytes.
fn trim(files: &[Rotated], keep: u64) -> io::Result<()> {
    let mut total = 0;
    for file in files.iter().rev() {
        total += fs::metadata(&file.path)?.len();
        if total > keep {
            fs::remove_file(&file.path)?;
        }
    }
    Ok(())
}

/// Replace `path` by `path.gz`, which is returned. The original goes last.
fn compress(path: &Path) -> io::Result<PathBuf> {
    let (half, whole) = (added(path, ".gz.tmp"), added(path, ".gz"));
    let mut from = File::open(path)?;
    let to = File::create(&half)?;
    to.set_permissions(from.metadata()?.permissions())?;
    let mut encoder = GzEncoder::new(io::BufWriter::new(to), Compression::default());
    let written = io::copy(&mut from, &mut encoder)
        .and_then(|_| encoder.finish())
        .and_then(|mut to| to.flush().and_then(|()| to.get_ref().sync_all()));
    if let Err(error) = written {
        // Most likely the disk is full: half a copy must not make it worse.
        let _ = fs::remove_file(&half);
        return Err(error);
    }
    fs::rename(&half, &whole)?;
    sync_folder(folder(path))?;
    fs::remove_file(path)?;
    Ok(whole)
}

fn added(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Tidies beside delivery: at most one run at a time and one waiting.
pub struct Tidier {
    gzip: bool,
    keep: u64,
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: bool,
    last: Option<JoinHandle<()>>,
    complaint: String,
}

impl Tidier {
    /// A tidier that has nothing to do yet.
    pub fn new(gzip: bool, keep: u64) -> Self {
        Self { gzip, keep, turn: Mutex::default(), state: Mutex::default() }
    }

    /// Tidy `series` soon.
    pub fn start(self: &Arc<Self>, series: Series) {
        let mut state = self.state();
        if !state.waiting {
            state.waiting = true;
            let this = self.clone();
            state.last = Some(spawn_blocking(move || this.run(&series)));
        }
    }

    fn run(&self, series: &Series) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // From here on a file may rotate unseen by this run, so the next may queue up.
        self.state().waiting = false;
        let told = |error| format!("cannot compress or delete rotated files: {error}");
        let tidied = series.tidy(self.gzip, self.keep);
        self.state().complaint = tidied.err().map(told).unwrap_or_default();
    }

    /// What went wrong with the last run; empty if nothing did.
    pub fn complaint(&self) -> String {
        self.state().complaint.clone()
    }

    /// Wait until everything asked for is tidied.
    pub async fn idle(&self) {
        let last = self.state().last.take();
        if let Some(last) = last {
            // It fails only by panicking, and then it is idle too.
            let _ = last.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
