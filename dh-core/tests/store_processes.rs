//! The SQLite store between processes: races, and writers that are killed.
//!
//! The test binary starts itself again as its own helper: the ignored tests below are the helpers' roles.

#![cfg(feature = "sqlite")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dh_core::domain::ErrorKind;
use dh_core::ports::{Expect, Item, ItemKey, ItemQuery, StateStore, Table};
use dh_core::store::SqliteStore;
use serde_json::json;

const PROCESSES: usize = 50;
const FILE: &str = "DH_TEST_STORE_FILE";
const ARGUMENT: &str = "DH_TEST_STORE_ARGUMENT";
/// Every line of a helper to its parent begins with this: the test harness prints lines of its own.
const MARK: &str = "helper:";

fn item(name: &str, text: &str) -> Item {
    let key = ItemKey { table: Table::Studios, environment: "dev".into(), name: name.into() };
    Item { key, alias: None, open: true, order: 0, version: 0, document: json!({ "schema": 1, "text": text }) }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn helper(role: &str, file: &Path, argument: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", role, "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(ARGUMENT, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Returns the file and the argument of a helper; `None` when somebody runs the ignored tests by hand.
fn role() -> Option<(PathBuf, String)> {
    Some((std::env::var_os(FILE)?.into(), std::env::var(ARGUMENT).ok()?))
}

fn say(line: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    // The harness may have begun a line of its own.
    writeln!(stdout, "\n{MARK}{line}").unwrap();
    stdout.flush().unwrap();
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.lines().map_while(Result::ok).filter_map(|line| Some(line.strip_prefix(MARK)?.to_owned()))
}

#[test]
#[ignore = "a helper process of the races"]
fn racer() {
    let Some((file, argument)) = role() else { return };
    // The file is opened only after the start: making it is part of the race.
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let expect = argument.parse().map_or(Expect::Absent, Expect::Version);
    let outcome = SqliteStore::open(&file)
        .and_then(|store| block_on(store.put(item("prize", &std::process::id().to_string()), expect)));
    match outcome {
        Ok(_) => say("won"),
        Err(error) if error.kind() == ErrorKind::Conflict => say("lost"),
        Err(error) => say(format!("failed: {}", error.full_message())),
    }
}

#[test]
#[ignore = "a helper process of the killed writers"]
fn writer() {
    let Some((file, _)) = role() else { return };
    let store = SqliteStore::open(&file).unwrap();
    // Documents of many pages each, so that a kill finds a write half done more often than not.
    for round in 0_u64.. {
        for name in ["a", "b", "c"] {
            let found = block_on(store.get(&item(name, "").key)).unwrap();
            let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
            let text = format!("{round} ").repeat(20_000);
            let version = block_on(store.put(item(name, &text), expect)).unwrap();
            say(format!("{name} {version} {round}"));
        }
    }
}

#[test]
#[ignore = "a helper process on a small disk"]
fn filler() {
    let Some((file, _)) = role() else { return };
    let store = match SqliteStore::open(&file) {
        Ok(store) => store,
        Err(error) => return say(format!("open {} {error} | {}", error.kind(), error.hint().unwrap())),
    };
    let mut version = block_on(store.put(item("a", "small"), Expect::Absent)).unwrap();
    for size in 1_usize.. {
        match block_on(store.put(item("a", &"x".repeat(size << 14)), Expect::Version(version))) {
            Ok(next) => version = next,
            Err(error) => {
                say(format!("put {} {error} | {}", error.kind(), error.hint().unwrap()));
                break;
            }
        }
    }
    let found = block_on(store.get(&item("a", "").key)).unwrap().unwrap();
    assert_eq!(found.version, version, "the last write that returned is there, and nothing of the failed one");
    assert_eq!(block_on(store.check()).unwrap(), [""; 0]);
    say("whole");
}

/// Runs the filler on a file system of its own, made by `mount`; `None` where this machine does not let us.
fn filler_on(folder: &Path, mount: &str) -> Option<Vec<String>> {
    let script = format!("{mount} && exec \"$0\" --ignored --exact filler --nocapture --test-threads=1");
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("DIR", folder)
        .env(FILE, folder.join("dh.sqlite3"))
        .env(ARGUMENT, "")
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let said: Vec<_> = lines(&mut child).collect();
    let status = child.wait().unwrap();
    if said.is_empty() && !status.success() {
        eprintln!("skip: no file system of our own can be mounted here ({status})");
        return None;
    }
    assert!(status.success(), "{said:?}");
    Some(said)
}

#[test]
fn a_full_disk_is_said_to_be_full_and_keeps_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(said) = filler_on(folder.path(), "mount -t tmpfs -o size=400k tmpfs \"$DIR\"") else { return };
    let [failure, end] = said.as_slice() else { panic!("{said:?}") };
    assert!(failure.starts_with("put storage the disk is full"), "{failure}");
    assert!(failure.contains(folder.path().to_str().unwrap()) && failure.contains("free some space"), "{failure}");
    assert_eq!(end, "whole");
}

#[test]
fn a_disk_with_no_room_for_the_file_is_said_to_be_full() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=16k tmpfs \"$DIR\"";
    let Some(said) = filler_on(folder.path(), mount) else { return };
    let [failure] = said.as_slice() else { panic!("{said:?}") };
    assert!(failure.starts_with("open storage the disk is full"), "{failure}");
}

#[test]
fn a_read_only_disk_is_named_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    for before in ["", "touch \"$DIR/dh.sqlite3\" &&"] {
        let mount = format!("mount -t tmpfs tmpfs \"$DIR\" && {before} mount -o remount,ro \"$DIR\"");
        let Some(said) = filler_on(folder.path(), &mount) else { return };
        let [failure] = said.as_slice() else { panic!("{said:?}") };
        assert!(failure.starts_with("open storage the disk is read-only"), "{failure}");
        assert!(failure.contains(folder.path().to_str().unwrap()) && failure.contains("DH_HOME"), "{failure}");
    }
}

/// Starts all, waits until all are ready, lets all go, and returns what each said last.
fn race(file: &Path, argument: &str) -> Vec<String> {
    let mut racers: Vec<_> = (0..PROCESSES).map(|_| helper("racer", file, argument)).collect();
    let mut outputs: Vec<_> = racers.iter_mut().map(lines).collect();
    for output in &mut outputs {
        assert_eq!(output.next().as_deref(), Some("ready"));
    }
    for racer in &mut racers {
        racer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let said = outputs.into_iter().map(|output| output.last().unwrap_or_default()).collect();
    for mut racer in racers {
        assert!(racer.wait().unwrap().success());
    }
    said
}

fn assert_one_won(mut said: Vec<String>) {
    said.sort_unstable();
    let mut expected = vec!["lost"; PROCESSES - 1];
    expected.push("won");
    assert_eq!(said, expected);
}

#[test]
fn of_fifty_processes_that_write_one_version_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dh.sqlite3");
    let store = SqliteStore::open(&file).unwrap();
    let version = block_on(store.put(item("prize", ""), Expect::Absent)).unwrap();
    assert_one_won(race(&file, &version.to_string()));
    let found = block_on(store.get(&item("prize", "").key)).unwrap().unwrap();
    assert_eq!(found.version, version + 1, "no loser left a trace");
}

#[test]
fn of_fifty_processes_that_make_the_file_and_insert_one_name_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not/yet/dh.sqlite3");
    assert_one_won(race(&file, "absent"));
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(block_on(store.check()).unwrap(), [""; 0]);
}

#[test]
fn a_killed_writer_leaves_every_acknowledged_write_and_no_half_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dh.sqlite3");
    let mut acknowledged = BTreeMap::new();
    for round in 0..8_u64 {
        let mut child = helper("writer", &file, "");
        let mut output = lines(&mut child);
        for line in output.by_ref().take(3 + round as usize) {
            remember(&mut acknowledged, &line);
        }
        // It is somewhere within its next writes now.
        std::thread::yield_now();
        child.kill().unwrap();
        child.wait().unwrap();
        for line in output {
            remember(&mut acknowledged, &line);
        }

        let store = SqliteStore::open(&file).unwrap();
        assert_eq!(block_on(store.check()).unwrap(), [""; 0]);
        let query = ItemQuery {
            table: Table::Studios,
            environment: "dev".into(),
            alias: None,
            open_only: false,
            newest_first: false,
            limit: None,
        };
        for found in block_on(store.list(query)).unwrap() {
            let text = found.document["text"].as_str().unwrap();
            let round = text.split(' ').next().unwrap();
            assert_eq!(text, format!("{round} ").repeat(20_000), "a whole document");
            let (version, written) = acknowledged[&found.key.name];
            // The write after the last acknowledged one may be there; an older one may not.
            assert!(found.version >= version, "{}: {} after {version}", found.key.name, found.version);
            assert!(found.version > version || round == written.to_string());
        }
    }
    assert_eq!(acknowledged.len(), 3);
}

fn remember(acknowledged: &mut BTreeMap<String, (u64, u64)>, line: &str) {
    let mut words = line.split(' ');
    let (Some(name), Some(version), Some(round)) = (words.next(), words.next(), words.next()) else {
        // Killed in the middle of a line.
        return;
    };
    if let (Ok(version), Ok(round)) = (version.parse(), round.parse()) {
        acknowledged.insert(name.to_owned(), (version, round));
    }
}
