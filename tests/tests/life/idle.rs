//! Going idle.

use dh_tests::{Home, have, until};
use serde_json::Value;

fn ledger(home: &Home, engine: &str) -> Vec<Value> {
    let lines = home.dh(["engine", "logs", engine, "--source", "ledger", "-n", "1000"]).ok().stdout;
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn whoever_has_a_terminal_on_an_idle_engine_is_warned_on_it_before_the_stop() {
    if !have("script", "bsdutils") {
        return;
    }
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    // A terminal that somebody left behind, as a pane of tmux is: it is there to write on, and nobody's connection.
    home.on("work", "nohup script -qfc 'sleep 1000' seen > left.log 2>&1 < /dev/null & echo");
    let seen = home.machine_dir("work").join("disk/home/seen");
    until("there is a terminal", || seen.exists().then_some(()));
    home.run("engine idle work --set 4s").ok();
    let shown = || std::fs::read_to_string(&seen).unwrap_or_default();
    until("the warning is on the terminal", || shown().contains("Engine 'work' has been idle").then_some(()));
    let text = shown();
    assert!(text.contains("will be stopped in") && text.contains("dh engine coffee work"), "{text}");
    let engine = home.until_state("work", "stopped");
    assert_eq!(engine["state_reason"]["cause"], "idle");
    assert_eq!(shown().matches("will be stopped in").count(), 1, "it is said once:\n{}", shown());
    let why = home.run("engine why work").ok().stdout;
    assert!(why.starts_with("work: stopped because nobody used it"), "{why}");
    home.until_empty();
}

#[test]
fn a_coffee_lock_holds_an_idle_engine_until_it_is_cancelled() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let set = home.run("engine coffee work 1h30m").ok().stdout;
    assert!(set.contains("Coffee lock set for 'work': 1h30m"), "{set}");
    home.run("engine idle work --set 2s").ok();
    // Looks that lie further apart than the timeout, all of them held by the lock.
    let held = until("the agent looked for longer than the timeout", || {
        let looks = ledger(&home, "work");
        let held: Vec<Value> = looks.into_iter().filter(|look| look["rule"] == "hold").collect();
        (held.len() >= 5).then_some(held)
    });
    assert!(held.iter().all(|look| look["sensor"] == "coffee"), "{held:?}");
    let engine = home.engine("work");
    assert_eq!(engine["state"], "running");
    assert!(engine["idle"]["coffee_until"].is_string(), "{engine}");
    let status = home.run("engine status work").ok().stdout;
    assert!(status.contains("coffee") && status.contains("ACTIVE"), "{status}");

    home.run("engine coffee work --cancel").ok();
    let engine = home.until_state("work", "stopped");
    assert_eq!(engine["state_reason"]["cause"], "idle");
}

#[test]
fn a_command_on_the_engine_keeps_it_and_its_end_lets_it_go() {
    let home = Home::new();
    home.run("engine launch work --type cpu --idle-timeout 2s").ok();
    let mut guest = home.spawn(["engine", "exec", "work", "--", "sleep", "1000"]);
    until("the session is seen", || {
        let seen = ledger(&home, "work").into_iter().filter(|look| look["sensor"] == "ssh").count();
        (seen >= 4).then_some(())
    });
    assert_eq!(home.engine("work")["state"], "running");
    guest.kill().expect("it is ours");
    guest.wait().expect("it ends");
    home.until_state("work", "stopped");
    home.until_empty();
}
