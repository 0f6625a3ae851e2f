//! Commands at the wrong time.

use dh_tests::Home;

use super::refused;

#[test]
fn what_a_stopped_engine_cannot_do_is_refused_with_how_to_start_it() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.run("studio create --size 1").ok();
    let told = refused(&home, &["engine", "start", "work"], 5, "Engine 'work' is running already");
    assert!(told.contains("dh engine shell work"), "{told}");
    home.run("engine stop work").ok();
    for words in [
        &["engine", "exec", "work", "--", "true"][..],
        &["engine", "shell", "work"],
        &["engine", "coffee", "work", "1h"],
        &["engine", "coffee", "work", "--cancel"],
        &["engine", "idle", "work", "--set", "1h"],
        &["engine", "resize", "work", "-s", "60", "--online", "-f"],
        &["studio", "attach", "work"],
    ] {
        let told = refused(&home, words, 5, "not running (state: stopped)");
        assert!(told.contains("dh engine start work"), "{told}");
    }
    for words in [&["engine", "stop", "work"][..], &["engine", "stop", "work", "--hibernate"]] {
        let told = refused(&home, words, 5, "Engine 'work' is stopped already");
        assert!(told.contains("dh engine start work"), "{told}");
    }
    home.run("engine start work").ok();
    home.run("engine stop work --hibernate").ok();
    refused(&home, &["engine", "stop", "work", "--hibernate"], 5, "is hibernated already");
    refused(&home, &["engine", "resize", "work", "-s", "60", "-f"], 5, "work in its memory");
    refused(&home, &["studio", "attach", "work"], 5, "state: hibernated");
}

#[test]
fn a_name_that_an_engine_has_is_refused_whatever_its_state() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let again = ["engine", "launch", "work", "--type", "cpumax"];
    let told = refused(&home, &again, 4, "Engine 'work' exists already");
    assert!(told.contains("dh engine terminate work"), "{told}");
    home.run("engine stop work").ok();
    refused(&home, &again, 4, "Engine 'work' exists already");
    home.run("engine terminate work -y").ok();
    home.run("engine launch work --type cpu").ok();
}

#[test]
fn studios_are_not_deleted_resized_or_moved_under_somebodys_hands() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.run("engine launch other --type cpu").ok();
    home.run("studio create --size 2").ok();
    let told = refused(&home, &["studio", "create", "--size", "1"], 4, "You already have a studio: vol-");
    assert!(told.contains("'dh studio delete' to remove it"), "{told}");
    refused(&home, &["studio", "detach"], 5, "not attached");
    for size in ["1", "2"] {
        refused(&home, &["studio", "resize", "-s", size, "-y"], 2, "can only grow");
        refused(&home, &["studio", "resize", "-s", size], 2, "can only grow");
    }
    home.run("studio attach work").ok();
    for words in [
        &["studio", "delete", "-y"][..],
        &["studio", "delete"],
        &["studio", "resize", "-s", "3", "-y"],
        &["studio", "resize", "-s", "3"],
    ] {
        let told = refused(&home, words, 5, "must be detached before");
        assert!(told.contains("dh studio detach"), "{told}");
    }
    refused(&home, &["studio", "attach", "work"], 5, "attached to work already");
    refused(&home, &["studio", "attach", "other"], 5, "attached to work");
    refused(&home, &["studio", "reset", "-y"], 5, "not stuck");
    for size in ["1", "50"] {
        let told = refused(&home, &["engine", "resize", "work", "-s", size, "-f"], 2, "can only grow");
        assert!(!told.to_lowercase().contains("detach"), "nothing was detached:\n{told}");
        refused(&home, &["engine", "resize", "work", "-s", size], 2, "can only grow");
    }
}

#[test]
fn where_nobody_can_answer_what_needs_an_answer_is_refused_with_the_option_that_gives_it() {
    let home = Home::new();
    home.configure("[environments.dev]\n[environments.prod]\n");
    home.run("engine launch work --type cpu").ok();
    home.run("studio create --size 1").ok();
    for (words, option) in [
        (&["engine", "terminate", "work"][..], "-y"),
        (&["engine", "resize", "work", "-s", "60"], "-f"),
        (&["studio", "delete"], "-y"),
        (&["studio", "resize", "-s", "2"], "-y"),
        (&["studio", "reset"], "-y"),
        (&["engine", "launch", "big", "--type", "cpu", "--env", "prod"], "-y"),
    ] {
        let told = refused(&home, words, 2, "no terminal to ask on");
        assert!(told.contains(&format!("run it again with {option}")), "{told}");
    }
    home.run("studio attach work").ok();
    for words in [&["engine", "stop", "work"][..], &["engine", "terminate", "work"]] {
        let told = refused(&home, words, 2, "no terminal to ask on");
        assert!(told.contains("run it again with -y"), "{told}");
    }
    assert_eq!(home.dh_reading("y\n", ["engine", "terminate", "work"]).code, 2, "a pipe is nobody");
    assert_eq!(home.engine("work")["state"], "running");
}
