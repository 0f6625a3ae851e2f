//! What one sweep of the stock sensors costs: processor time of the whole process, user and system, and memory.
//!
//! `cargo bench -p dh-core --features testkit --bench sweep`. Wall time would measure the machine's other load; what an
//! agent takes from its engine is processor time, so that is read from the kernel's own account.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dh_core::ports::SensorContext;
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{Sweep, stock};
use rustix::time::{ClockId, clock_gettime};

const SWEEPS: u32 = 50;
const PROCESSES: usize = 500;
/// Two sockets each.
const CONNECTIONS: usize = 500;

fn main() {
    // `cargo test --benches` runs this too: then once is enough.
    let sweeps = if std::env::args().any(|argument| argument == "--bench") { SWEEPS } else { 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = resident();
    measure(&runtime, "this host", sweeps);
    println!("{:<44} {:>8.2} MiB more than before the first sweep", "memory", resident() - before);
    let crowd: Vec<Ended> = (0..PROCESSES).map(|_| cat("cat")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets: Vec<_> = (0..CONNECTIONS)
        .map(|_| (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap()))
        .collect();
    measure(&runtime, &format!("{PROCESSES} processes, {} sockets more", 2 * CONNECTIONS), sweeps);
    let server = cat("/home/user/.vscode-server/node");
    measure(&runtime, "the same, and an editor's server: three looks", sweeps);
    drop((server, sockets, crowd));
}

fn measure(runtime: &tokio::runtime::Runtime, what: &str, sweeps: u32) {
    let host = Arc::new(ProcHost::new(Scope::Machine, "/nonexistent/coffee"));
    let context = SensorContext { host, deadline: Duration::from_secs(10) };
    let sweep = Sweep::new(stock());
    runtime.block_on(sweep.run(&context));
    let before = processor_time();
    for _ in 0..sweeps {
        let readings = runtime.block_on(sweep.run(&context));
        assert_eq!(readings.len(), 4);
    }
    let each = (processor_time() - before) / sweeps;
    println!("{what:<44} {:>8.3} ms of processor time a sweep", each.as_secs_f64() * 1_000.0);
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns what this process holds in memory, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1_024.0
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cat(name: &str) -> Ended {
    Ended(Command::new("cat").arg0(name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
}
