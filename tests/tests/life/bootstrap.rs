//! Launching: what the configuration adds to it, and how it fails.

use dh_tests::{Home, until};

fn stage(engine: &serde_json::Value, name: &str) -> serde_json::Value {
    let stages = engine["bootstrap"]["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no stage {name} in {engine}")).clone()
}

fn bootstrap(home: &Home, engine: &str) -> serde_json::Value {
    home.dh(["engine", "debug", engine, "--output", "json"]).ok().json()
}

#[test]
fn a_set_up_script_and_a_shared_directory_are_on_the_engine() {
    let home = Home::new();
    let shared = home.path().join("shared data");
    std::fs::create_dir(&shared).expect("a shared directory");
    std::fs::write(shared.join("set"), "of everybody\n").expect("a file");
    home.set_up_with("echo setting up; pwd > where; echo once >> times\n");
    home.configure(&format!(
        "[environments.dev]\nsetup_script = \"setup.sh\"\nprimordial = {:?}\n[environments.dev.defaults]\nengine_type = \"cpu\"\n",
        shared.display().to_string()
    ));
    home.run("engine launch work").ok();
    assert_eq!(home.on("work", "cat where"), home.on("work", "pwd"), "it runs in the home directory");
    assert_eq!(home.on("work", "cat ../primordial/set"), "of everybody");
    home.on("work", "echo mine > ../primordial/new");
    assert_eq!(std::fs::read_to_string(shared.join("new")).expect("it is the same directory"), "mine\n");
    let log = home.run("engine logs work").ok().stdout;
    assert!(log.contains("setting up"), "{log}");
    let debug = bootstrap(&home, "work");
    for name in ["installing_packages", "mounting_primordial", "configuring_idle_detector", "ready"] {
        assert_eq!(stage(&debug, name)["status"], "completed", "{debug}");
    }

    home.run("engine stop work").ok();
    home.run("engine start work").ok();
    assert_eq!(home.on("work", "cat times"), "once", "a start does not set up anew");
    home.run("engine terminate work -y").ok();
    assert!(shared.join("set").exists(), "what is shared is not the engine's to delete");
}

#[test]
fn a_failing_set_up_fails_the_launch_and_leaves_what_is_needed_to_find_out_why() {
    let home = Home::new();
    home.set_up_with("for i in $(seq 50); do echo \"step $i\"; done\necho 'no such package: frobnicate' >&2\nexit 3\n");
    let ran = home.run("engine launch work --type cpu").refused(17, "exit code 3");
    for told in ["installing_packages", "step 50", "no such package: frobnicate", "dh engine debug work"] {
        assert!(ran.stderr.contains(told), "{told:?} is missing from:\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("step 1\n"), "only the last lines:\n{}", ran.stderr);
    assert!(!ran.stdout.contains("ready"), "{}", ran.stdout);

    assert_eq!(home.engine("work")["state"], "failed");
    let debug = home.run("engine debug work").ok().stdout;
    assert!(debug.contains("Ready: False") && debug.contains("✗ 3. installing_packages"), "{debug}");
    assert!(debug.contains("no such package: frobnicate"), "{debug}");
    let logs = home.run("engine logs work -n 200").ok().stdout;
    assert!(logs.contains("step 1\n") && logs.contains("no such package: frobnicate"), "{logs}");
    let why = home.run("engine why work").ok().stdout;
    assert!(why.starts_with("work: bootstrap failed at installing_packages"), "{why}");
    home.on("work", "echo 'somebody looks into it'");
    home.run("engine start work").refused(5, "its launch failed");
    home.run("studio create --size 1").ok();
    home.run("studio attach work").refused(5, "not running (state: failed)");

    home.run("engine terminate work -y").ok();
    home.until_empty();
    assert_eq!(home.run("engine list").ok().stdout.matches("work").count(), 0);
    home.set_up_with("true\n");
    home.run("engine launch work --type cpu").ok();
}

#[test]
fn a_missing_shared_directory_fails_the_launch_at_its_stage() {
    let home = Home::new();
    home.configure("[environments.dev]\nprimordial = \"nowhere\"\n");
    let ran = home.run("engine launch work --type cpu").refused(17, "mounting_primordial");
    assert!(ran.stderr.contains("config/nowhere"), "{}", ran.stderr);
    home.run("engine terminate work -y").ok();
}

#[test]
fn without_waiting_the_engine_becomes_ready_by_itself() {
    let home = Home::new();
    home.set_up_with("until [ -e go ]; do sleep 0.05; done\n");
    let ran = home.run("engine launch work --type cpu --no-wait").ok();
    assert!(ran.stdout.contains("is launching") && ran.stdout.contains("dh engine status work"), "{}", ran.stdout);
    home.until_state("work", "launching");
    let id = until("it has a machine", || home.engine("work")["id"].as_str().map(str::to_owned));
    let go = home.dh_home().join("data/engines").join(id).join("disk/home/go");
    until("it has a home", || std::fs::write(&go, "").ok());
    let engine = home.until_state("work", "running");
    assert_eq!(engine["ready"], true);
    let operations = home.run("ops list --output json").ok().json();
    assert_eq!(operations["operations"][0]["status"], "completed");
    home.on("work", "true");
}
