//! What an idle engine costs: its agent's own memory stays small, and does not grow with every look.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use dh_tests::{DEADLINE, Home};

/// What is no file's page. The agent's limit is 10 MiB with its program, which is too large where it is not optimized:
/// `make bench` measures that.
const OWN_KIB: u64 = 4 * 1024;

/// Threads come and go, and each has an arena of its own for what it allocates. A leak of 2 KiB a look is more.
const GROWTH_KIB: u64 = 512;

fn own_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel that tells memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Has the agent look so many times, one after another.
fn look(disk: &Path, times: usize) {
    let poke = UnixDatagram::unbound().expect("a socket");
    // Not by its path, which may be too long for a socket's address.
    let var = File::open(disk.join("var")).expect("the agent's folder");
    let socket = format!("/proc/self/fd/{}/agent.sock", var.as_raw_fd());
    let written = || fs::metadata(disk.join("var/ledger.jsonl")).map_or(0, |ledger| ledger.len());
    for _ in 0..times {
        let (before, began) = (written(), Instant::now());
        poke.send_to(b"look", &socket).expect("the agent listens");
        while written() == before {
            assert!(began.elapsed() < DEADLINE, "the agent does not look");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

#[test]
fn an_idle_agent_does_not_grow() {
    let home = Home::new();
    home.run("engine launch bench --type cpu --skip-ssh-config").ok();
    let mut engines = fs::read_dir(home.dh_home().join("data/engines")).expect("the engines' folder");
    let disk = engines.next().expect("there is one").expect("its name").path().join("disk");
    let agent = home.agent().expect("the agent runs");
    look(&disk, 100);
    let before = own_kib(agent);
    look(&disk, 300);
    let after = own_kib(agent);
    assert!(after < OWN_KIB && after < before + GROWTH_KIB, "{before} KiB after 100 looks, {after} KiB after 400");
    home.run("engine terminate bench -y").ok();
    home.until_empty();
}
