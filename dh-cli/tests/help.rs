//! The help of every command, as it is read on 100 columns. The second command line is compared with these.

use assert_cmd::Command;

fn help(words: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::cargo_bin("dh")
        .unwrap()
        .args(words)
        .arg("--help")
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names under `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_is_as_agreed() {
    let mut all = String::new();
    let mut pending: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = help(&words);
        for name in subcommands(&text).into_iter().rev() {
            pending.push([path.clone(), vec![name]].concat());
        }
        all.push_str(&format!("$ dh {}\n{}\n", [&words[..], &["--help"]].concat().join(" "), text));
    }
    insta::assert_snapshot!(all);
}
