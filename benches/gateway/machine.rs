//! What the figures were measured on.

use std::path::Path;
use std::process::Command;

use super::bare;
use super::load::percentile;

/// Writes for the disk's own figure.
const SYNCS: u64 = 500;

/// A few lines about this machine and the disk below `dir`.
pub fn about(dir: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    let kernel = read("/proc/sys/kernel/osrelease");
    let system = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
    let system = system.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    let syncs = bare::syncs(dir, SYNCS);
    let us = |share| percentile(&syncs, share).as_micros();
    format!(
        "{cores} cores ({model}), {} GiB, Linux {}; {} with a write of 4 KiB and its fdatasync in {} us (p50) and {} us (p99).",
        memory.unwrap_or_default() >> 20,
        kernel.trim(),
        system.unwrap_or_default(),
        us(0.5),
        us(0.99),
    )
}
