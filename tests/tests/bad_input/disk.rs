//! Disks that take nothing, and state that is not what it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use dh_tests::{Home, SmallDisk, can_mount};

/// Commands that read, that make something, and that change something.
const COMMANDS: [&str; 7] = [
    "engine list",
    "engine status work",
    "engine launch neu --type cpu",
    "engine stop work",
    "engine terminate work -y",
    "studio create --size 1",
    "ops list",
];

/// Ends whatever a failed test has left on a disk before the disk goes.
fn on(disk: &SmallDisk) -> Home {
    Home::keeping_in(&disk.path().join("dh"))
}

#[test]
fn on_a_full_disk_nothing_is_begun_and_it_is_said_what_is_full() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::new(2);
    let home = on(&disk);
    disk.fill();
    for command in COMMANDS {
        let ran = home.run(command).refused(14, "disk is full");
        assert!(ran.stderr.contains("Free some space"), "{}", ran.stderr);
        assert!(home.processes().is_empty());
    }
    disk.relieve();
    home.run("engine list").ok();
    assert_eq!(home.run("ops list --output json").ok().json()["operations"], serde_json::json!([]));
}

#[test]
fn an_engine_for_which_there_is_no_room_is_not_begun() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::new(2);
    let home = on(&disk);
    home.run("engine list").ok();
    let ran = home.run("engine launch work --type cpu").refused(14, "too little room");
    assert!(ran.stderr.contains("Free some space"), "{}", ran.stderr);
    home.until_empty();
    home.run("engine status work").refused(3, "No engine 'work'");
    let left: Vec<_> = std::fs::read_dir(home.dh_home().join("data/engines")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    for operation in home.run("ops list --output json").ok().json()["operations"].as_array().expect("operations") {
        assert_eq!(operation["status"], "failed", "{operation}");
    }
}

#[test]
fn an_engine_outlives_the_filling_up_of_its_disk_and_can_be_ended_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::new(256);
    let home = on(&disk);
    home.run("engine launch work --type cpu").ok();
    disk.fill();
    for command in ["studio create --size 1", "engine stop work", "engine terminate work -y"] {
        home.run(command).refused(14, "disk is full");
    }
    for command in ["engine coffee work 1h", "engine idle work --set 1h"] {
        home.run(command).refused(14, "No space left");
    }
    assert_eq!(home.engine("work")["state"], "running");
    assert_eq!(home.on("work", "echo here"), "here");
    disk.relieve();
    home.run("engine terminate work -y").ok();
    home.until_empty();
}

#[test]
fn on_a_read_only_disk_nothing_is_begun_and_it_is_said_what_cannot_be_written() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::new(256);
    let home = on(&disk);
    disk.set_read_only(true);
    home.run("engine launch neu --type cpu").refused(14, "ead-only");
    disk.set_read_only(false);
    home.run("engine launch work --type cpu").ok();
    home.run("engine stop work").ok();
    home.until_empty();
    let files = home.files();
    disk.set_read_only(true);
    for command in COMMANDS {
        let ran = home.run(command).refused(14, "disk is read-only");
        assert!(ran.stderr.contains("DH_HOME"), "{}", ran.stderr);
        assert!(home.processes().is_empty());
    }
    assert_eq!(home.files(), files);
    disk.set_read_only(false);
    home.run("engine start work").ok();
}

fn database(home: &Home) -> PathBuf {
    home.dh_home().join("state/dh.sqlite3")
}

/// Changes the state behind dh's back.
fn alter(home: &Home, sql: &str) {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.close()";
    let status = Command::new("python3").args(["-c", script]).arg(database(home)).arg(sql).status();
    assert!(status.expect("python3 starts").success(), "{sql}");
}

/// A home with a stopped engine, no process, and its state whole in one file.
fn at_rest() -> Home {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.run("engine stop work").ok();
    home.until_empty();
    alter(&home, "PRAGMA wal_checkpoint(TRUNCATE);");
    home
}

fn refused_by_all(home: &Home, code: i32, says: &str, next: &str) {
    let content = |path: &Path| std::fs::read(path).expect("the state");
    let (state, files) = (content(&database(home)), home.files());
    for command in COMMANDS {
        let ran = home.run(command).refused(code, says);
        assert!(ran.stderr.contains(next), "{next:?} is missing from:\n{}", ran.stderr);
        assert_eq!(ran.stdout, "", "{command}");
        assert!(home.processes().is_empty(), "{command}");
    }
    assert!(content(&database(home)) == state, "the state was written to");
    let news: Vec<_> = home.files().difference(&files).cloned().collect();
    assert!(news.iter().all(|file| file.to_string_lossy().contains("dh.sqlite3-")), "{news:?}");
    let doctor = home.run("doctor");
    assert_eq!(doctor.code, 1);
    assert!(doctor.stdout.contains("✗ State"), "{}", doctor.stdout);
}

/// Bytes without any order, the same in every run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_state_of_noise_is_said_to_be_damaged_and_left_as_it_is() {
    let home = at_rest();
    let whole = std::fs::read(database(&home)).expect("the state");
    std::fs::write(database(&home), noise(8_192)).expect("the state");
    refused_by_all(&home, 14, "is damaged", "Put a backup");

    std::fs::write(database(&home), whole).expect("the backup");
    assert_eq!(home.engine("work")["state"], "stopped", "with the backup all is well");
}

#[test]
fn a_state_of_which_only_the_beginning_is_whole_is_said_to_be_damaged() {
    let home = at_rest();
    let mut state = std::fs::read(database(&home)).expect("the state");
    let length = state.len();
    state[4_096..].copy_from_slice(&noise(length - 4_096));
    std::fs::write(database(&home), state).expect("the state");
    refused_by_all(&home, 14, "is damaged", "Put a backup");
}

#[test]
fn a_state_of_a_newer_dh_is_left_alone() {
    let home = at_rest();
    alter(&home, "PRAGMA user_version = 99;");
    refused_by_all(&home, 15, "written by a newer dh", "Upgrade dh");
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let home = at_rest();
    std::fs::remove_file(database(&home)).expect("the state");
    alter(&home, "CREATE TABLE photos (name TEXT);");
    refused_by_all(&home, 14, "another program", "aside");
}

#[test]
fn a_record_of_a_newer_dh_and_a_damaged_one_are_named() {
    for (sql, code, says) in [
        ("document = json_set(document, '$.schema', 99)", 15, "The stored engine 'work' was written by a newer dh"),
        ("document = 'nonsense'", 14, "The stored engine 'work' is damaged"),
        ("document = json_remove(document, '$.user')", 14, "The stored engine 'work' is damaged"),
    ] {
        let home = at_rest();
        let before = home.files();
        alter(&home, &format!("UPDATE engines SET {sql};"));
        for command in ["engine list", "engine status work", "engine start work", "engine terminate work -y"] {
            let ran = home.run(command).refused(code, says);
            assert_eq!(ran.stdout, "", "{command}");
            assert!(home.processes().is_empty(), "{command}");
        }
        let news: Vec<_> = home.files().difference(&before).cloned().collect();
        assert!(news.iter().all(|file| file.to_string_lossy().contains("dh.sqlite3-")), "{news:?}");
    }
}

#[test]
fn a_machine_whose_own_record_is_newer_or_damaged_is_named_by_its_file() {
    let home = at_rest();
    let file = home.machine_dir("work").join("machine.json");
    let whole = std::fs::read_to_string(&file).expect("the record");
    let newer = whole.replacen("\"schema\": 1", "\"schema\": 99", 1);
    assert_ne!(newer, whole);
    for (text, code, says) in [(newer.as_str(), 15, "written by a newer dh"), ("{", 14, "is damaged")] {
        std::fs::write(&file, text).expect("the record");
        let ran = home.run("engine start work").refused(code, says);
        assert!(ran.stderr.contains("machine.json"), "{}", ran.stderr);
        // One engine that cannot be described hides no other.
        let list = home.run("engine list").ok();
        assert!(list.stdout.contains("work") && list.stdout.contains("failed"), "{}", list.stdout);
        assert_eq!(std::fs::read_to_string(&file).expect("the record"), text);
    }
    std::fs::write(&file, whole).expect("the record");
    home.run("engine start work").ok();
}
