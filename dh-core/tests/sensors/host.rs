//! The real host against what the test itself began.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dh_core::domain::{Activity, ErrorKind, MachineId, Reading};
use dh_core::ports::{Host, Sensor};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{CoffeeSensor, SshSensor, Sweep};

use crate::support::{context, lines, until};

/// A child that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cat() -> Command {
    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped()).stdout(Stdio::null());
    cat
}

fn engine_of(pid: u32, root: &Path) -> Arc<ProcHost> {
    let machine = MachineId::new("i-0123456789abcdef0").unwrap();
    Arc::new(ProcHost::new(Scope::Descendants { of: pid, root: root.into(), machine }, root.join("coffee")))
}

#[test]
fn a_process_is_seen_as_it_is() {
    let child = Ended(cat().arg("-").arg("a b").env("DH_SESSION", "exec").spawn().unwrap());
    let host = ProcHost::new(Scope::Machine, "/nonexistent/coffee");
    let processes = host.processes().unwrap();
    let seen = processes.iter().find(|process| process.pid == child.0.id()).unwrap();
    assert_eq!((seen.ppid, seen.comm.as_str()), (std::process::id(), "cat"));
    assert_eq!(seen.cmdline, ["cat", "-", "a b"]);
    assert_eq!(seen.dh_session.as_deref(), Some("exec"));
    let age = host.now().duration_since(seen.started_at).as_secs();
    assert!((-2..60).contains(&age), "began {age} s ago");
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    assert_eq!(seen.user, user.trim());
    assert!(processes.iter().any(|process| process.pid == std::process::id()));
}

#[test]
fn processes_that_come_and_go_while_looked_at_are_no_error() {
    let host = ProcHost::new(Scope::Machine, "/nonexistent/coffee");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let churn = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        }
    });
    for _ in 0..200 {
        host.processes().unwrap();
        host.connections().unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    churn.join().unwrap();
}

#[test]
fn an_engine_sees_what_descends_from_its_supervisor_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    // A supervisor with a child and a grandchild, which all end with their input; `cat` beside it belongs to nobody.
    let mut supervisor = Ended(
        Command::new("sh")
            .args(["-c", "sh -c '(echo ready; read line; :); :'; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let _stranger = Ended(cat().spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(supervisor.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let seen = engine_of(supervisor.0.id(), root.path()).processes().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!((seen[0].ppid, seen[1].ppid), (supervisor.0.id(), seen[0].pid));
    drop(supervisor.0.stdin.take());
    supervisor.0.wait().unwrap();
}

#[test]
fn an_agent_does_not_see_itself() {
    let root = tempfile::tempdir().unwrap();
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get() as u32;
    let seen = engine_of(parent, root.path()).processes().unwrap();
    assert!(seen.iter().all(|process| process.pid != std::process::id()));
}

#[tokio::test]
async fn an_engine_whose_supervisor_is_gone_reads_unknown() {
    let root = tempfile::tempdir().unwrap();
    let mut child = Ended(cat().spawn().unwrap());
    let host = engine_of(child.0.id(), root.path());
    assert!(host.processes().unwrap().is_empty());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(host.processes().unwrap_err().kind(), ErrorKind::NotFound);
    let reading = Sweep::new(vec![Arc::new(SshSensor)]).run(&context(host)).await.remove(0);
    assert_eq!(reading.activity, Activity::Unknown);
    assert!(reading.reason.contains("supervisor"), "{reading:?}");
}

#[test]
fn a_connection_is_seen_with_both_its_processes_and_its_direction() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let host = ProcHost::new(Scope::Machine, "/nonexistent/coffee");
    let seen = host.connections().unwrap();
    let of = |socket: &TcpStream| {
        let ends = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
        seen.iter().find(|connection| (connection.local, connection.remote) == ends).cloned().unwrap()
    };
    let me = Some(std::process::id());
    assert_eq!((of(&client).pid, of(&client).inbound), (me, false));
    assert_eq!((of(&server).pid, of(&server).inbound), (me, true));
    let ends = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    drop((client, server));
    let after = host.connections().unwrap();
    assert!(!after.iter().any(|c| (c.local, c.remote) == ends), "it ended and is still seen");
}

#[test]
fn an_engine_does_not_see_others_connections() {
    let root = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let child = Ended(cat().spawn().unwrap());
    assert_eq!(engine_of(child.0.id(), root.path()).connections().unwrap(), []);
}

#[tokio::test]
async fn a_coffee_lock_on_disk_is_read_and_one_that_cannot_be_is_unknown() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("coffee");
    let host = Arc::new(ProcHost::new(Scope::Machine, &path));
    let sweep = Sweep::new(vec![Arc::new(CoffeeSensor)]);
    let look = async || sweep.run(&context(host.clone())).await.remove(0);
    assert_eq!(look().await.reason, "No coffee lock");
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_600);
    std::fs::File::create(&path).unwrap().write_all(until.to_string().as_bytes()).unwrap();
    assert_eq!(look().await.reason, "Coffee lock active (1h remaining)");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(look().await.activity, Activity::Unknown);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(look().await.activity, Activity::Unknown, "a directory is no lock, and not nothing");
}

#[test]
fn typing_moves_a_terminals_last_input() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let tty = name.strip_prefix("/dev/").unwrap().to_owned();
    let old = jiff::Timestamp::from_second(1_000_000_000).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: old.as_second(), tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: old.as_second(), tv_nsec: 0 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, &name, &times, rustix::fs::AtFlags::empty()).unwrap();
    let host = ProcHost::new(Scope::Machine, "/nonexistent/coffee");
    assert_eq!(host.last_input(&tty).unwrap(), Some(old));
    let slave = std::fs::File::options().read(true).write(true).open(&name).unwrap();
    rustix::io::write(&master, b"ls\n").unwrap();
    let mut line = [0; 16];
    assert_eq!(rustix::io::read(&slave, &mut line).unwrap(), 3);
    assert!(host.last_input(&tty).unwrap().unwrap() > old);
    drop((master, slave));
    assert_eq!(host.last_input("pts/4294967295").unwrap(), None, "one that is gone is not an error");
    for bad in ["", "/etc/passwd", "../etc/passwd", "pts/../null", "pts//0"] {
        assert!(host.last_input(bad).is_err(), "{bad:?}");
    }
}

/// dh's own session as the supervisor begins it: leading a session of its own, with `DH_SESSION` set.
#[tokio::test]
async fn an_exec_holds_while_it_runs_and_not_by_what_it_leaves_behind() {
    let root = tempfile::tempdir().unwrap();
    let host = engine_of(std::process::id(), root.path());
    let look = async || SshSensor.sample(&context(host.clone())).await.unwrap();
    // The test stands for the supervisor: what loses its parent comes to it.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).unwrap();
    let mut session = Ended(
        Command::new("setsid")
            .args(["sh", "-c", "sleep 600 & exec cat"])
            .env("DH_SESSION", "exec")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // Other tests' sessions may descend from this process as well.
    let execs = |reading: &Reading| -> Vec<String> {
        lines(reading, "sessions").into_iter().filter(|line| line.contains("dh: ")).collect()
    };
    let seen = execs(&until("the exec", &look, |reading| !execs(reading).is_empty()).await);
    assert!(seen[0].contains(" exec ") && seen[0].contains(&session.0.id().to_string()), "{seen:?}");
    let left = async || -> Vec<_> {
        let mut marked = host.processes().unwrap();
        marked.retain(|process| process.dh_session.is_some() && process.comm == "sleep");
        marked
    };
    until("what will be left behind", &left, |left| left.len() == 1).await;
    drop(session.0.stdin.take());
    session.0.wait().unwrap();
    let after = execs(&look().await);
    let rest = left().await;
    for process in &rest {
        let pid = rustix::process::Pid::from_raw(process.pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert_eq!(
        rest.iter().map(|process| process.ppid).collect::<Vec<_>>(),
        [std::process::id()],
        "nothing was left behind"
    );
    assert!(after.is_empty(), "{after:?}");
}
