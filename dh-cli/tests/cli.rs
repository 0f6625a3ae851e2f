//! The program itself: arguments, exit codes, streams.

use std::process::Stdio;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

fn dh(home: &tempfile::TempDir) -> Command {
    let mut command = Command::cargo_bin("dh").unwrap();
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("DH_HOME", home.path().join("dh"))
        .env("DH_USER", "alice");
    command
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_right() {
    for (line, told) in [
        ("engin list", "'engine'"),
        ("engine lst", "'list'"),
        ("engine launch x --type cpu --size 0", "whole number of GB"),
        ("engine launch x --type cpu --size -5", "whole number of GB"),
        ("engine launch x --type cpu --size ten", "whole number of GB"),
        ("engine launch ../up --type cpu", "Choose a name"),
        ("engine launch x --type cpu --idle-timeout 4d", "2h30m"),
        ("engine coffee x", "<DURATION>"),
        ("engine coffee x 4h --cancel", "cannot be used with"),
        ("engine idle x --set 1.5h", "2h30m"),
        ("engine resize x", "--size"),
        ("studio resize", "--size"),
        ("engine exec x ls", "Unexpected argument"),
        ("engine logs x --source nothing", "bootstrap"),
        ("--output yaml engine list", "jsonl"),
        ("ops show ../x", "dh ops list"),
        ("engine", "Usage: dh engine"),
        ("", "Usage: dh"),
    ] {
        let home = home();
        dh(&home).args(line.split_whitespace()).assert().code(2).stdout("").stderr(contains(told));
        assert!(!home.path().join("dh").exists(), "'{line}' left something behind");
    }
    let long = "x".repeat(300);
    dh(&home()).args(["engine", "launch", &long, "--type", "cpu"]).assert().code(2).stderr(contains("300 characters"));
    dh(&home()).args(["engine", "launch", "", "--type", "cpu"]).assert().code(2).stderr(contains("empty"));
    dh(&home()).args(["engine", "launch", "two words", "--type", "cpu"]).assert().code(2).stderr(contains("space"));
}

#[test]
fn a_log_is_talk_with_or_without_colours() {
    for color in ["always", "never"] {
        dh(&home())
            .env("DH_LOG", "dh_core=trace,debug")
            .args(["--color", color, "config", "path"])
            .assert()
            .success()
            .stdout(contains("config.toml"));
    }
    dh(&home()).env("DH_LOG", "dh_core=loud").args(["config", "path"]).assert().code(2).stderr(contains("DH_LOG"));
}

#[test]
fn a_wrong_variable_ends_with_2() {
    dh(&home())
        .env("DH_OUTPUT", "yaml")
        .args(["config", "path"])
        .assert()
        .code(2)
        .stderr(contains("table, json, jsonl"));
    dh(&home()).env("DH_OUTPUT", "").args(["config", "path"]).assert().success();
}

#[test]
fn every_variable_and_exit_code_is_in_its_topic() {
    let topic = dh(&home()).args(["help", "environment"]).assert().success();
    let text = String::from_utf8(topic.get_output().stdout.clone()).unwrap();
    for variable in dh_core::connect::variables::ALL {
        assert!(text.contains(variable.name), "{}", variable.name);
    }
    let topic = dh(&home()).args(["help", "exit-codes"]).assert().success();
    let text = String::from_utf8(topic.get_output().stdout.clone()).unwrap();
    for kind in dh_core::domain::ErrorKind::ALL {
        assert!(text.contains(&format!("  {} ", kind.exit_code())), "{kind}");
    }
}

#[test]
fn the_configuration_is_shown_and_a_wrong_key_is_named_with_its_line() {
    let home = home();
    dh(&home).args(["config", "path"]).assert().success().stdout(contains("dh/config/config.toml\n"));
    dh(&home).args(["config", "show"]).assert().success().stdout(contains("backend = \"local\""));
    let folder = home.path().join("dh/config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[environments.dev]\nbackend = \"local\"\nregoin = \"x\"\n").unwrap();
    dh(&home).args(["engine", "list"]).assert().code(16).stdout("").stderr(contains("line 3").and(contains("regoin")));
    dh(&home).args(["doctor"]).assert().code(1).stdout(contains("✗ Configuration"));
}

#[test]
fn an_unknown_environment_is_told_with_those_there_are() {
    let home = home();
    dh(&home).args(["engine", "list", "--env", "prod"]).assert().code(3).stderr(contains("dev"));
    dh(&home).env("DH_ENV", "prod").args(["engine", "list"]).assert().code(3);
    dh(&home).env("DH_ENV", "prod").args(["config", "show", "--env", "dev"]).assert().success();
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        dh(&home()).args(["completions", shell]).assert().success().stdout(contains("engine"));
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = home();
    let folder = home.path().join("man");
    dh(&home).arg("man").arg(&folder).assert().success();
    for page in ["dh.1", "dh-engine.1", "dh-engine-launch.1", "dh-studio-attach.1", "dh-ops-resume.1"] {
        assert!(folder.join(page).exists(), "{page}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let home = home();
    let program = assert_cmd::cargo::cargo_bin("dh");
    let run = |out: Stdio| {
        std::process::Command::new(&program)
            .args(["config", "path"])
            .env("DH_HOME", home.path())
            .stdout(out)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    let full = run(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
    assert_eq!(full.status.code(), Some(14), "{full:?}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = run(writer.into());
    assert_eq!((gone.status.code(), gone.stderr.len()), (Some(0), 0), "{gone:?}");
}

#[test]
fn colour_is_for_terminals_or_when_asked_for() {
    let home = home();
    dh(&home).args(["doctor"]).assert().stdout(contains("\u{1b}[").not());
    dh(&home).args(["doctor", "--color", "always"]).env("NO_COLOR", "1").assert().stdout(contains("\u{1b}["));
    dh(&home).args(["engine", "--help"]).assert().success().stdout(contains("\u{1b}[").not());
}

#[test]
fn doctor_as_json_has_a_verdict_for_every_check() {
    let output = dh(&home()).args(["doctor", "--output", "json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["version"], &document["object"]), (&1.into(), &"checks".into()));
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.len() > 5 && checks.iter().all(|check| check["verdict"].is_string()), "{document:#}");
}
