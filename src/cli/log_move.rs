//! `siemgate log export` and `import`: a gateway's logs on their way to another machine.
//!
//! Guarantees: a file that is there already is not overwritten, nor one that could not be written
//! left; an import checks the whole file before it makes anything.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::logs::{Which, is_ours};
use super::{Exit, failed, print};
use crate::core::log::portable::{self, Carried};
use crate::core::log::verify::quiet;
use crate::core::log::{Disk, RealDisk};

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file to be written, readable for its owner only: it holds events. `-`: standard output.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// What `siemgate log export` wrote.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

pub(super) fn export(config: &Path, export: &Export) -> Result<Exit, Exit> {
    let places = export.which.logs(config)?;
    let logs: Vec<(String, Arc<dyn Disk>)> =
        places.iter().map(|place| (place.name.clone(), place.disk())).collect();
    let locks = logs.iter().map(|(_, disk)| quiet(&**disk)).collect::<Result<Vec<_>, _>>();
    let _locks = locks.map_err(failed)?;
    if export.file.as_os_str() == "-" {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let carried = portable::export(&logs, &mut out).map_err(failed)?;
        eprint!("{}", told(&carried));
        return Ok(Exit::Ok);
    }
    let shown = export.file.display();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&export.file);
    let file = file.map_err(|error| failed(format!("{shown}: {error}")))?;
    let carried = into(&file, &logs).map_err(|error| {
        let _ = std::fs::remove_file(&export.file);
        failed(format!("{shown}: {error}"))
    })?;
    let advice = format!(
        "{shown} is written. Start only one of the two gateways: both would deliver what is open\n"
    );
    Ok(print((told(&carried) + &advice).as_bytes()))
}

fn into(
    file: &File,
    logs: &[(String, Arc<dyn Disk>)],
) -> Result<Vec<Carried>, portable::StreamError> {
    let mut out = BufWriter::new(file);
    let carried = portable::export(logs, &mut out)?;
    out.flush()?;
    file.sync_all()?;
    Ok(carried)
}

pub(super) fn import(config: &Path, import: &Import) -> Result<Exit, Exit> {
    let open = || {
        let file = File::open(&import.file);
        let file = file.map_err(|error| failed(format!("{}: {error}", import.file.display())));
        file.map(BufReader::new)
    };
    let told_of = |error| failed(format!("{}: {error}", import.file.display()));
    let carried = portable::check(open()?).map_err(told_of)?;
    let names = carried.into_iter().map(|log| log.name).filter(|name| import.which.takes(name));
    let places = import.which.to_fill(config, names.collect())?;
    if places.is_empty() {
        return Err(failed(format!("{} has no such log", import.file.display())));
    }
    for place in &places {
        is_ours(&place.dir)?;
        if std::fs::read_dir(&place.dir).is_ok_and(|mut entries| entries.next().is_some()) {
            let error = portable::StreamError::NotEmpty(place.dir.display().to_string());
            return Err(failed(format!("{error}; move it away first")));
        }
    }
    let mut disks = std::collections::BTreeMap::new();
    for place in &places {
        let made = RealDisk::new(&place.dir);
        let disk = made.map_err(|error| failed(format!("{}: {error}", place.dir.display())))?;
        disks.insert(place.name.clone(), Arc::new(disk) as Arc<dyn Disk>);
    }
    let carried = portable::import(open()?, &disks).map_err(told_of)?;
    Ok(print(told(&carried).as_bytes()))
}

fn told(carried: &[Carried]) -> String {
    let line = |log: &Carried| {
        let Carried { name, events, oldest, next, lost } = log;
        let lost: u64 = lost.iter().map(|lost| lost.end.since(lost.start)).sum();
        let lost = if lost == 0 { String::new() } else { format!(", {lost} of them unreadable") };
        format!("{name}: {events} events, positions {oldest}..{next}{lost}\n")
    };
    carried.iter().map(line).collect()
}
