//! The process as the kernel sees it: memory, processor time, open files.
//!
//! Guarantees: the usual names, without the program's prefix, so that everybody's dashboards know
//! them; read from /proc when scraped, and left as they were where that cannot be read.

use std::fs::{read_dir, read_to_string};

use prometheus::{Counter, IntGauge, Result};

use super::families::Families;
use super::seconds;
use crate::core::Timestamp;

/// Ticks of /proc/self/stat in a second: `USER_HZ`, which is 100 on every Linux that Rust's
/// standard library runs on.
const TICKS: f64 = 100.0;

/// The families of the process.
pub(super) struct Process {
    cpu: Counter,
    memory: IntGauge,
    open: IntGauge,
    most: IntGauge,
}

impl Process {
    pub fn new(f: &Families, started: Timestamp) -> Result<Self> {
        let start = f.process_float("start_time_seconds", "When the process started.")?;
        start.set(seconds(started));
        Ok(Self {
            cpu: f.process_counter("cpu_seconds_total", "Processor time used.")?,
            memory: f.process_gauge("resident_memory_bytes", "Memory in use.")?,
            open: f.process_gauge("open_fds", "Open files and connections.")?,
            most: f.process_gauge("max_fds", "Most files and connections that may be open.")?,
        })
    }

    pub fn refresh(&self) {
        let read = |file: &str| read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        if let Some(used) = cpu_seconds(&read("stat")) {
            self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        }
        if let Some(kilobytes) = after(&read("status"), "VmRSS:") {
            self.memory.set(kilobytes * 1024);
        }
        if let Some(most) = after(&read("limits"), "Max open files") {
            self.most.set(most);
        }
        if let Ok(open) = read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            self.open.set(i64::try_from(open.count()).unwrap_or(i64::MAX) - 1);
        }
    }
}

/// `utime` and `stime`: the 14th and 15th field. The second, the name in parentheses, may hold
/// anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut ticks = after_name.split_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}

/// The first number behind `name` at the beginning of a line.
fn after(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_by_its_documented_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 1 0 250 150 0 0 20 0 5 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds(""), None);
        let limits = "Limit   Soft  Hard\nMax open files            1024   4096   files\n";
        assert_eq!(after(limits, "Max open files"), Some(1024));
        assert_eq!(after("VmHWM:\t 9 kB\nVmRSS:\t  48 kB\n", "VmRSS:"), Some(48));
        assert_eq!(after("Max open files  unlimited", "Max open files"), None);
    }
}
