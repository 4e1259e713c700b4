//! The process itself, as Prometheus' own client libraries report it, read from /proc when the metrics are asked for.
//! Elsewhere than on Linux there is nothing to read, and the metrics are absent.

use std::fs;

use prometheus::{
    Counter, Gauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::catalogue::{self, Family};

/// Linux counts processor time for /proc in hundredths of a second on every architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads one figure; `None` where there is nothing to read.
type Read = fn() -> Option<f64>;

/// Reads the process's figures from /proc.
pub(super) struct Process {
    cpu: Counter,
    gauges: [(Gauge, Read); 5],
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |family: &Family| Gauge::new(family.name, family.help);
        Ok(Self {
            cpu: Counter::new(catalogue::PROCESS_CPU.name, catalogue::PROCESS_CPU.help)?,
            gauges: [
                (gauge(&catalogue::PROCESS_RSS)?, || status_bytes("VmRSS:")),
                (gauge(&catalogue::PROCESS_VIRTUAL)?, || status_bytes("VmSize:")),
                (gauge(&catalogue::PROCESS_OPEN_FDS)?, open_fds),
                (gauge(&catalogue::PROCESS_MAX_FDS)?, max_fds),
                (gauge(&catalogue::PROCESS_START)?, start_seconds),
            ],
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        if let Some(seconds) = cpu_seconds() {
            // A counter is only ever added to; two scrapes at once must not count the same time twice.
            let _one = SCRAPE.lock();
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        for (gauge, read) in &self.gauges {
            if let Some(value) = read() {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// Lets one scrape at a time bring the processor time up to date.
static SCRAPE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A field of /proc/self/stat by its number in proc(5). The second, the program's name, may hold spaces.
fn stat_field(number: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat_field(14)? + stat_field(15)?) / TICKS_PER_SECOND)
}

fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(22)? / TICKS_PER_SECOND)
}

fn status_bytes(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_fds() -> Option<f64> {
    // The folder is itself open while it is counted.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
