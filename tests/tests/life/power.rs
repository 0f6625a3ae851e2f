//! Commands on an engine, and what becomes of its processes and its disk.

use std::path::Path;

use dh_tests::{Home, lives, send, until};
use rustix::process::Signal;
use serde_json::Value;

/// Counts in a file for as long as it lives, and notes its own process when it begins.
const COUNTER: &str = r#"
    nohup sh -c 'echo $$ > counter.pid; n=0; while :; do n=$((n+1)); echo $n > n.new; mv n.new n; sleep 0.01; done' \
        > counter.log 2>&1 < /dev/null &
"#;

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Starts the counter and returns its process, which no command of ours waits for any more.
fn count(home: &Home, engine: &str) -> u32 {
    home.on(engine, COUNTER);
    let pid = home.machine_dir(engine).join("disk/home/counter.pid");
    until("the counter counts", || read(&pid)).parse().expect("a process id")
}

fn counted(home: &Home, engine: &str) -> u64 {
    let file = home.machine_dir(engine).join("disk/home/n");
    until("there is a count", || read(&file)).parse().expect("a number")
}

#[test]
fn a_command_gets_its_words_and_streams_as_they_are_and_its_exit_code_is_dhs() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let script = r#"for word in "$@"; do echo "[$word]"; done; echo oops >&2; exit 7"#;
    let words =
        ["engine", "exec", "work", "--", "sh", "-c", script, "sh", "two words", "it's", "$HOME *", "", "--help"];
    let ran = home.dh(words);
    assert_eq!(ran.stdout, "[two words]\n[it's]\n[$HOME *]\n[]\n[--help]\n");
    assert_eq!((ran.stderr.as_str(), ran.code), ("oops\n", 7));

    let long = "line\n".repeat(100_000);
    let ran = home.dh_reading(&long, ["engine", "exec", "work", "--", "wc", "-l"]).ok();
    assert_eq!(ran.stdout.trim(), "100000");

    assert_eq!(home.dh(["engine", "exec", "work", "--", "sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    home.dh(["engine", "exec", "work", "--", "no-such-program"]).fails(127, "no-such-program");
}

#[test]
fn a_job_in_the_background_outlives_its_command_and_ends_with_the_engine_whose_disk_stays() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let job = count(&home, "work");
    assert!(lives(job));
    home.run("engine stop work").ok();
    assert!(!lives(job), "stop ends what runs on the engine");
    home.until_empty();

    assert_eq!(home.engine("work")["state"], "stopped");
    home.run("engine start work").ok();
    assert_eq!(home.on("work", "cat counter.pid"), job.to_string(), "the disk is kept");
    assert!(!lives(job), "what has ended stays so");
}

#[test]
fn hibernation_keeps_memory_and_start_goes_on_where_it_was() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let counter = count(&home, "work");
    home.run("engine stop work --hibernate").ok();
    assert_eq!(home.engine("work")["state"], "hibernated");
    assert!(lives(counter));
    let asleep = counted(&home, "work");
    for _ in 0..20 {
        home.run("engine list").ok();
    }
    assert_eq!(counted(&home, "work"), asleep, "nothing runs on a hibernated engine");
    home.dh(["engine", "exec", "work", "--", "true"]).refused(5, "hibernated");

    home.run("engine start work").ok();
    until("the counter goes on", || (counted(&home, "work") > asleep).then_some(()));
    assert!(lives(counter), "it is the same process");
    home.run("engine terminate work -y").ok();
    assert!(!lives(counter));
    home.until_empty();
}

#[test]
fn termination_leaves_no_process_no_file_and_no_group_but_the_studio() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.run("studio create --size 1").ok();
    home.run("studio attach work").ok();
    let mount_point = home.studio()["attached_to"]["mount_point"].as_str().expect("a mount point").to_owned();
    std::fs::write(format!("{mount_point}/thesis"), "precious\n").expect("the studio takes a file");
    let dir = home.machine_dir("work");
    let record: Value =
        serde_json::from_slice(&std::fs::read(dir.join("machine.json")).expect("a record")).expect("JSON");
    let groups: Vec<String> = record["boot"]["cgroups"]
        .as_array()
        .map(|groups| groups.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    count(&home, "work");

    home.run("engine terminate work -y").ok();
    home.until_empty();
    let left: Vec<_> = std::fs::read_dir(dir.parent().expect("engines")).expect("engines").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    for group in groups {
        assert!(!Path::new(&group).exists(), "{group} is left");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&dir.display().to_string()), "{mounts}");
    home.run("engine status work").refused(3, "No engine 'work'");

    assert_eq!(home.studio()["status"], "available");
    home.run("engine launch next --type cpu").ok();
    home.run("studio attach next").ok();
    let mount_point = home.studio()["attached_to"]["mount_point"].as_str().expect("a mount point").to_owned();
    assert_eq!(std::fs::read_to_string(format!("{mount_point}/thesis")).expect("the file"), "precious\n");
    home.run("engine terminate next -y").ok();
}

#[test]
fn an_engine_whose_supervisor_was_killed_shows_as_stopped_with_the_reason_and_starts_again() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let job = count(&home, "work");
    send(home.process("dh-agent", "supervise").expect("a supervisor"), Signal::KILL);
    let engine = home.until_state("work", "stopped");
    assert_eq!(engine["state_reason"]["cause"], "died");
    assert!(engine["state_reason"]["message"].as_str().is_some_and(|why| why.contains("supervisor")), "{engine}");
    let shown = home.run("engine status work").ok().stdout;
    assert!(shown.contains("State: stopped") && shown.contains("supervisor was killed"), "{shown}");
    let why = home.run("engine why work").ok().stdout;
    assert!(why.starts_with("work: stopped") && !why.starts_with("work: work"), "{why}");
    home.until_empty();
    assert!(!lives(job));

    home.run("engine start work").ok();
    assert_eq!(home.on("work", "cat counter.pid"), job.to_string());
}

#[test]
fn an_engine_whose_computer_was_restarted_shows_as_stopped_with_the_reason_and_starts_again() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.on("work", "echo kept > note");
    // As after a restart: nothing runs any more, and the record tells of an earlier boot of the computer.
    let file = home.machine_dir("work").join("machine.json");
    home.processes().into_iter().for_each(|pid| send(pid, Signal::KILL));
    home.until_empty();
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).expect("a record")).expect("JSON");
    record["boot"]["host"] = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(&file, record.to_string()).expect("the record is written");

    let engine = home.engine("work");
    assert_eq!(engine["state"], "stopped");
    assert_eq!(engine["state_reason"]["cause"], "host_rebooted");
    let shown = home.run("engine status work").ok().stdout;
    assert!(shown.contains("was restarted"), "{shown}");
    home.run("engine start work").ok();
    assert_eq!(home.on("work", "cat note"), "kept");
}

#[test]
fn a_killed_agent_is_restarted_and_the_engine_goes_on() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let job = count(&home, "work");
    let first = home.process("dh-agent", "run").expect("an agent");
    send(first, Signal::KILL);
    until("another agent runs", || home.process("dh-agent", "run").filter(|pid| *pid != first));
    assert!(lives(job));
    assert_eq!(home.engine("work")["state"], "running");
    until("the new agent answers", || (home.run("engine coffee work 1h").code == 0).then_some(()));
}

#[test]
fn one_engine_does_not_see_the_sessions_of_another() {
    let home = Home::new();
    home.run("engine launch left --type cpu").ok();
    home.run("engine launch right --type cpu").ok();
    let mut guest = home.spawn(["engine", "exec", "left", "--", "sh", "-c", "echo here > guest; exec sleep 1000"]);
    let sign = home.machine_dir("left").join("disk/home/guest");
    until("somebody is on the left", || read(&sign));
    let seen = |engine: &str| {
        // Whatever changes the policy makes the agent look at once.
        home.run(&format!("engine idle {engine} --set 1h")).ok();
        let engine = home.engine(engine);
        let sensors = engine["idle"]["sensors"].as_array().cloned().unwrap_or_default();
        let ssh = sensors.into_iter().find(|sensor| sensor["name"] == "ssh").expect("the SSH sensor");
        (ssh["activity"].as_str().expect("an activity").to_owned(), ssh.to_string())
    };
    until("the left one sees them", || (seen("left").0 == "active").then_some(()));
    let (activity, all) = seen("right");
    assert_eq!(activity, "idle", "{all}");
    guest.kill().expect("it is ours");
    guest.wait().expect("it ends");
}
