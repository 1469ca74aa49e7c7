//! Where a gateway keeps its logs and its socket, from the few sections that say so.
//!
//! Guarantees: reads `[server]`, `[log]`, `[dead_letters]` and `[quarantine]` and nothing else, so that
//! what is wrong elsewhere in the configuration keeps nobody from looking after the logs, or from
//! asking the gateway that runs. It is not a plan: nothing may be started with it.

use std::path::{Path, PathBuf};

use super::reading::{Reading, placed};
use crate::core::config::{
    Engine, Layers, LogSettings, Problems, QuarantineSettings, ServerSettings,
};

/// See the module.
pub struct Whereabouts {
    server: ServerSettings,
    log: LogSettings,
    dead_letters: QuarantineSettings,
    quarantine: QuarantineSettings,
}

impl Whereabouts {
    /// Read what the folder `dir` and the environment say.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        let layers = Layers::read(dir)?;
        let mut root = layers.root();
        let mut reading = Reading { problems: Problems::new() };
        let server = reading.section(&mut root, "server");
        let log = reading.section(&mut root, "log");
        let dead_letters = reading.section(&mut root, "dead_letters");
        let quarantine = reading.section(&mut root, "quarantine");
        match (server, log, dead_letters, quarantine) {
            (Some(server), Some(log), Some(dead_letters), Some(quarantine)) => {
                Ok(Self { server, log, dead_letters, quarantine })
            }
            _ => Err(placed(reading.problems, &layers)),
        }
    }

    /// Whether there are logs on disk.
    pub fn on_disk(&self) -> bool {
        self.log.engine == Engine::Files
    }

    /// The folder of the log called `name`: `log`, `dead`, `quarantine`, or another beside them.
    pub fn log(&self, name: &str) -> PathBuf {
        let beside = || self.log.dir.with_file_name(name);
        match name {
            "log" => self.log.dir.clone(),
            "dead" => self.dead_letters.dir.clone().unwrap_or_else(beside),
            "quarantine" => self.quarantine.dir.clone().unwrap_or_else(beside),
            _ => beside(),
        }
    }

    /// The folder that holds the logs which have no place of their own.
    pub fn data(&self) -> &Path {
        self.log.dir.parent().unwrap_or(Path::new("."))
    }

    /// Where the admin's Unix socket is, if there is one.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        admin_socket(&self.server, &self.log)
    }
}

/// `admin.sock` beside the log unless set.
pub(super) fn admin_socket(server: &ServerSettings, log: &LogSettings) -> Option<PathBuf> {
    match &server.admin_socket {
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(path.clone()),
        None => Some(log.dir.with_file_name("admin.sock")),
    }
}
