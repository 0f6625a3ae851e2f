use std::fs;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

/// A `/proc`, `/run` and `/dev` of the test's own.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for dir in ["proc", "run", "dev/pts"] {
            fs::create_dir_all(tree.at(dir)).unwrap();
        }
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn process(&self, pid: u32, ppid: u32) {
        fs::create_dir_all(self.at(&format!("proc/{pid}/fd"))).unwrap();
        let stat = format!("{pid} (x) S {ppid} {pid} {pid} 0 0 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n");
        fs::write(self.at(&format!("proc/{pid}/stat")), stat).unwrap();
        fs::write(self.at(&format!("proc/{pid}/status")), "Name:\tx\nUid:\t4242424\t4242424\t0\t0\n").unwrap();
        fs::write(self.at(&format!("proc/{pid}/cmdline")), "x\0-y\0").unwrap();
        fs::write(self.at(&format!("proc/{pid}/environ")), "HOME=/\0DH_SESSION=shell\0").unwrap();
    }

    fn socket(&self, path: &str) -> UnixListener {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        UnixListener::bind(path).unwrap()
    }

    fn host(&self, scope: Scope) -> ProcHost {
        ProcHost::new(scope, self.at("coffee")).with_places(&self.at("proc"), &self.at("run"), &self.at("dev"))
    }
}

#[test]
fn a_process_is_put_together_from_its_files() {
    let tree = Tree::new();
    tree.process(1, 0);
    tree.process(7, 1);
    fs::create_dir(tree.at("proc/sys")).unwrap();
    let processes = tree.host(Scope::Machine).processes().unwrap();
    assert_eq!(processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [1, 7]);
    let seen = &processes[1];
    // The owner of the folder, which is this test; root's own would be looked up in `status`.
    let uid = rustix::process::getuid();
    let me = if uid.is_root() { "4242424".to_owned() } else { Users::new("/etc/passwd").fresh_name(uid.as_raw()) };
    assert_eq!((seen.ppid, seen.user.as_str(), seen.cmdline.join(" ").as_str()), (1, me.as_str(), "x -y"));
    assert_eq!(seen.dh_session.as_deref(), Some("shell"));
}

#[test]
fn a_process_that_vanishes_between_two_of_its_files_is_skipped() {
    for gone in ["stat", "status", "cmdline"] {
        let tree = Tree::new();
        tree.process(1, 0);
        tree.process(7, 1);
        fs::remove_file(tree.at("proc/7").join(gone)).unwrap();
        assert_eq!(tree.host(Scope::Machine).processes().unwrap().len(), 1, "{gone}");
    }
}

#[test]
fn a_form_of_proc_that_is_not_known_is_an_error() {
    let tree = Tree::new();
    tree.process(1, 0);
    fs::write(tree.at("proc/1/stat"), "gibberish").unwrap();
    assert!(tree.host(Scope::Machine).processes().is_err());
    assert!(
        Tree::new()
            .host(Scope::Machine)
            .with_places(Path::new("/nonexistent"), Path::new("/"), Path::new("/"))
            .processes()
            .is_err()
    );
}

#[test]
fn a_proc_that_hides_others_is_an_error_and_not_an_empty_host() {
    let tree = Tree::new();
    tree.process(7, 1);
    let error = tree.host(Scope::Machine).processes().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.hint().unwrap().contains("root"));
}

#[test]
fn logins_whose_process_or_terminal_is_gone_are_stale() {
    let tree = Tree::new();
    tree.process(1, 0);
    tree.process(7, 1);
    let host = tree.host(Scope::Machine);
    assert_eq!(host.logins().unwrap(), [], "no record is kept here");
    let mut utmp = utmp::record(7, 7, "pts/0", "alice", "192.0.2.1", 1_700_000_000);
    utmp.extend(utmp::record(7, 8, "pts/0", "gone", "192.0.2.2", 1_700_000_000));
    utmp.extend(utmp::record(7, 7, "pts/9", "closed", "192.0.2.3", 1_700_000_000));
    utmp.extend(utmp::record(7, 7, "tty1", "console", "", 1_700_000_000));
    fs::write(tree.at("run/utmp"), utmp).unwrap();
    fs::write(tree.at("dev/pts/0"), "").unwrap();
    let users: Vec<String> = host.logins().unwrap().into_iter().map(|login| login.user).collect();
    assert_eq!(users, ["alice", "console"]);
    fs::remove_file(tree.at("run/utmp")).unwrap();
    fs::create_dir(tree.at("run/utmp")).unwrap();
    assert!(host.logins().is_err(), "a record that cannot be read is not an empty one");
}

#[test]
fn a_machines_container_sockets_are_the_systems_and_its_users() {
    let tree = Tree::new();
    assert_eq!(tree.host(Scope::Machine).container_sockets().unwrap(), []);
    let _sockets = [
        tree.socket("run/docker.sock"),
        tree.socket("run/podman/podman.sock"),
        tree.socket("run/user/1000/podman/podman.sock"),
    ];
    fs::write(tree.at("run/user/1000/docker.sock"), "no socket").unwrap();
    let found = tree.host(Scope::Machine).container_sockets().unwrap();
    let expected: Vec<ContainerSocket> =
        ["run/docker.sock", "run/podman/podman.sock", "run/user/1000/podman/podman.sock"]
            .map(|path| ContainerSocket { path: tree.at(path).to_str().unwrap().into(), label: None })
            .into();
    assert_eq!(found, expected);
}

#[test]
fn an_engine_has_its_own_sockets_and_of_the_hosts_only_what_bears_its_label() {
    let tree = Tree::new();
    let _sockets = [
        tree.socket("run/docker.sock"),
        tree.socket("run/podman/podman.sock"),
        tree.socket("engine/run/podman/podman.sock"),
    ];
    let machine = MachineId::new("i-0123456789abcdef0").unwrap();
    let host = tree.host(Scope::Descendants { of: 7, root: tree.at("engine"), machine });
    let found = host.container_sockets().unwrap();
    let paths: Vec<_> = found.iter().map(|socket| (socket.path.clone(), socket.label.as_deref())).collect();
    let at = |path: &str| tree.at(path).to_str().unwrap().to_owned();
    assert_eq!(
        paths,
        [(at("engine/run/podman/podman.sock"), None), (at("run/docker.sock"), Some("dh.engine=i-0123456789abcdef0")),]
    );
}
