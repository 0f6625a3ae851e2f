//! Everything that people and disks get wrong: one clear error, a next step, the documented exit code, nothing half done.

mod config;
mod disk;
mod states;
mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dh_tests::Home;
use serde_json::Value;

/// What must be as it was after a command that was refused.
#[derive(Debug, PartialEq)]
struct Standing {
    engines: Vec<Value>,
    studios: Vec<Value>,
    operations: usize,
    processes: usize,
    files: BTreeSet<PathBuf>,
}

impl Standing {
    fn of(home: &Home) -> Self {
        let list = |line: &str, name: &str| {
            home.run(&format!("{line} --output json")).ok().json()[name].as_array().expect(name).clone()
        };
        let kept = |item: &Value, keys: &[&str]| keys.iter().map(|key| item[*key].clone()).collect::<Value>();
        let engines = list("engine list", "engines");
        let studios = list("studio list", "studios");
        Self {
            engines: engines
                .iter()
                .map(|engine| kept(engine, &["name", "id", "state", "boot_disk_gb", "studios", "idle_timeout_secs"]))
                .collect(),
            studios: studios.iter().map(|studio| kept(studio, &["id", "size_gb", "status", "attached_to"])).collect(),
            // One that was refused leaves none behind.
            operations: list("ops list --limit 1000", "operations").len(),
            processes: home.processes().len(),
            // SQLite's own files come and go with who is connected.
            files: home.files().into_iter().filter(|file| !file.to_string_lossy().contains("dh.sqlite3-")).collect(),
        }
    }
}

/// Runs a command that must be refused and leave everything as it was.
fn refused(home: &Home, words: &[&str], code: i32, says: &str) -> String {
    let before = Standing::of(home);
    let ran = home.dh(words.iter().copied()).refused(code, says);
    assert_eq!(ran.stdout, "", "{words:?}");
    assert_eq!(Standing::of(home), before, "{words:?} left something behind");
    ran.stderr
}
