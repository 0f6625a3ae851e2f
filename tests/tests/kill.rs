//! Kill -9 of the CLI, the agent, or both, at each step of an attach: the next command finishes or unwinds it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use dh_tests::{Home, send, until};
use rustix::process::Signal;

const STEPS: [&str; 6] =
    ["validate_engine", "find_device_slot", "attach_volume", "resolve_device", "mount_filesystem", "update_state"];

fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Attaches, and kills when a step has begun. Returns whether the command was killed before its end.
fn attach_until(home: &Home, step: &str, kill_cli: bool, kill_agent: bool) -> bool {
    let mut cli = home
        .command("dh")
        .args(["studio", "attach", "bench", "--skip-ssh-config", "--output", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("dh starts");
    let lines = BufReader::new(cli.stdout.take().expect("piped"));
    for line in lines.lines().map_while(Result::ok) {
        if line.contains(step) {
            if kill_agent && let Some(pid) = home.agent() {
                kill(pid);
            }
            if kill_cli {
                kill(cli.id());
            }
            break;
        }
    }
    cli.wait().expect("dh ends").code().is_none()
}

fn killed_at_every_step(kill_cli: bool, kill_agent: bool) {
    let home = Home::new();
    home.run("engine launch bench --type cpu").ok();
    home.run("studio create --size 1").ok();
    home.run("studio attach bench").ok();
    home.dh([
        "engine",
        "exec",
        "bench",
        "--",
        "sh",
        "-c",
        "echo precious > studios/alice/notes || echo precious > ../studios/alice/notes",
    ])
    .ok();
    home.run("studio detach").ok();
    let mut killed = 0;
    for step in STEPS {
        killed += usize::from(attach_until(&home, step, kill_cli, kill_agent));
        if kill_agent {
            until("the agent is restarted", || home.agent());
        }
        // Whatever was left: the next command carries on with it, and the files are there.
        let again = home.run("studio attach bench");
        assert!(again.code == 0 || again.stderr.contains("attached to bench already"), "after {step}: {again:?}");
        let studio = home.run("studio status --output json").ok().json()["studio"].take();
        assert_eq!(studio["status"], "attached", "after {step}");
        let notes = format!("{}/notes", studio["attached_to"]["mount_point"].as_str().expect("a mount point"));
        assert_eq!(std::fs::read_to_string(&notes).expect(&notes), "precious\n", "after {step}");
        home.run("studio detach").ok();
        let open = home.run("ops list --output json").ok().json();
        for operation in open["operations"].as_array().expect("operations") {
            assert!(
                ["completed", "failed"].contains(&operation["status"].as_str().unwrap()),
                "after {step}: {operation}"
            );
        }
    }
    // The last steps may be over before the kill; a test that never killed in time would prove nothing.
    assert!(!kill_cli || killed >= STEPS.len() / 2, "only {killed} attaches were killed in time");
    home.run("studio delete -y").ok();
    home.run("engine terminate bench -y").ok();
    home.until_empty();
}

#[test]
fn an_attach_survives_the_death_of_the_cli_at_every_step() {
    killed_at_every_step(true, false);
}

#[test]
fn an_attach_survives_the_death_of_the_agent_at_every_step() {
    killed_at_every_step(false, true);
}

#[test]
fn an_attach_survives_the_death_of_both_at_every_step() {
    killed_at_every_step(true, true);
}
