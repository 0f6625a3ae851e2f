//! Interrupting an operation, going on with it, and undoing it.

use std::process::Child;

use dh_tests::{Home, Ran, send, until};
use rustix::process::Signal;

/// A set-up that goes on for as long as nobody says otherwise, and a launch that has got there.
fn launching(home: &Home) -> Child {
    home.set_up_with("echo waiting > begun; until [ -e go ]; do sleep 0.05; done; echo over > ended\n");
    let launch = home.spawn(["engine", "launch", "work", "--type", "cpu"]);
    until("the set-up has begun", || {
        let engine = home.run("engine status work --output json");
        let id = (engine.code == 0).then(|| engine.json()["engine"]["id"].as_str().map(str::to_owned)).flatten()?;
        home.dh_home().join("data/engines").join(id).join("disk/home/begun").exists().then_some(())
    });
    launch
}

fn interrupt(launch: Child) -> Ran {
    send(launch.id(), Signal::INT);
    launch.wait_with_output().expect("dh ends").into()
}

fn launch_operation(home: &Home) -> serde_json::Value {
    let all = home.run("ops list --output json").ok().json();
    let all = all["operations"].as_array().expect("operations");
    all.iter().find(|operation| operation["kind"] == "launch").expect("the launch").clone()
}

#[test]
fn ctrl_c_pauses_a_launch_and_says_how_to_go_on_and_going_on_finishes_it() {
    let home = Home::new();
    let ran = interrupt(launching(&home));
    assert_eq!(ran.code, 130, "{ran:?}");
    let operation = launch_operation(&home);
    let id = operation["id"].as_str().expect("an id");
    for told in [format!("dh ops resume {id}"), format!("dh ops cancel {id}")] {
        assert!(ran.stderr.contains(&told), "{told:?} is missing from:\n{}", ran.stderr);
    }
    assert_eq!((&operation["status"], &operation["paused"]), (&"in_progress".into(), &true.into()));
    home.run("engine list").ok();
    assert_eq!(launch_operation(&home)["paused"], true, "nobody else goes on with what was paused");

    let resumed = home.spawn(["ops", "resume", id]);
    std::fs::write(home.machine_dir("work").join("disk/home/go"), "").expect("the engine's home");
    Ran::from(resumed.wait_with_output().expect("dh ends")).ok();
    assert_eq!(home.engine("work")["state"], "running");
    assert_eq!(home.on("work", "cat ended"), "over");
    home.run(&format!("ops resume {id}")).refused(5, "is over");
    home.run(&format!("ops cancel {id}")).refused(5, "is over");
}

#[test]
fn cancelling_an_interrupted_launch_leaves_nothing_of_it() {
    let home = Home::new();
    let before = interrupt(launching(&home));
    assert_eq!(before.code, 130);
    let operation = launch_operation(&home);
    let id = operation["id"].as_str().expect("an id");
    home.run(&format!("ops cancel {id}")).ok();
    assert_eq!(launch_operation(&home)["status"], "cancelled");
    home.run("engine status work").refused(3, "No engine 'work'");
    home.until_empty();
    let left: Vec<_> = std::fs::read_dir(home.dh_home().join("data/engines")).expect("engines").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn terminating_an_engine_whose_launch_was_interrupted_undoes_the_launch() {
    let home = Home::new();
    assert_eq!(interrupt(launching(&home)).code, 130);
    let ran = home.run("engine terminate work -y").ok();
    assert!(ran.stdout.contains("Engine 'work' is terminated"), "{ran:?}");
    assert_eq!(launch_operation(&home)["status"], "cancelled");
    home.run("engine status work").refused(3, "No engine 'work'");
    home.until_empty();
}
