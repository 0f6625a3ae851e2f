//! The same engines for somebody who is not root: no control groups, signals instead, and an SSH server of their own.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use dh_core::domain::{MachineState, StopMode};
use dh_core::ports::EngineBackend;

use crate::harness::{House, dh_agent, is_alive, write_program};
use crate::hibernate::{MEMORY, ask, is_frozen, secret};
use crate::ssh;

const USER: u32 = 61_234;

#[test]
fn everything_works_without_root() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: all other tests run without root already");
        return;
    }
    let dir = tempfile::Builder::new().prefix("dh-unprivileged-").tempdir_in("/tmp").unwrap();
    let home = dir.path();
    chown(home, Some(USER), Some(USER)).unwrap();
    // What lies in the builder's own directories the other user may not be able to reach.
    for (from, to) in [(std::env::current_exe().unwrap(), "tests"), (dh_agent(), "dh-agent")] {
        fs::copy(from, home.join(to)).unwrap();
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(home.join("passwd"), format!("{passwd}dhtest:x:{USER}:{USER}::/nonexistent:/bin/sh\n")).unwrap();
    // In a mount namespace of its own the other user exists.
    let script = "mount --bind \"$1/passwd\" /etc/passwd && exec setpriv --reuid \"$2\" --regid \"$2\" --clear-groups \
                  \"$1/tests\" --exact unprivileged::somebodys_engine --ignored --nocapture";
    write_program(&home.join("run"), &format!("#!/bin/sh\n{script}\n"));
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(home.join("run"))
        .arg(home)
        .arg(USER.to_string())
        .env("DH_TEST_AGENT", home.join("dh-agent"))
        .env("TMPDIR", home)
        .current_dir(home)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "it failed as another user");
}

#[tokio::test]
#[ignore = "run as another user by everything_works_without_root"]
async fn somebodys_engine() {
    assert!(!rustix::process::geteuid().is_root());
    {
        let house = House::new();
        let id = house.launch("quiet").await.id;
        assert_eq!(house.record(&id).boot.unwrap().cgroups, [] as [std::path::PathBuf; 0]);
        assert_eq!(house.exec(&id, "exit 6").status().unwrap().code(), Some(6));
        let daemon = house.daemon(&id, "daemon", MEMORY);
        let secret = secret(&house, &id);
        house.backend.stop_machine(&id, StopMode::Hibernate).await.unwrap();
        house.await_state(&id, MachineState::Hibernated).await;
        assert!(is_frozen(&house, &id, daemon));
        house.backend.start_machine(&id).await.unwrap();
        assert_eq!(ask(&house, &id), secret);
        house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
        house.await_state(&id, MachineState::Stopped).await;
        assert!(!is_alive(daemon));
        house.backend.terminate_machine(&id).await.unwrap();
        house.await_gone(&id).await;
    }
    if ssh::is_installed() {
        ssh::logs_in_and_copies(&House::new()).await;
    }
}
