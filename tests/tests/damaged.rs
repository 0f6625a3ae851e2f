//! What becomes of engines and studios when files of dh's own are lost.

use std::fs;
use std::path::PathBuf;

use dh_tests::Home;

fn record(home: &Home, name: &str) -> PathBuf {
    let id = home.engine(name)["id"].as_str().expect("an id").to_owned();
    home.dh_home().join("data/engines").join(id).join("machine.json")
}

fn no_machine_is_left(home: &Home) {
    home.until_empty();
    let left = fs::read_dir(home.dh_home().join("data/engines")).expect("engines").count();
    assert_eq!(left, 0, "a machine's directory is left");
}

#[test]
fn an_engine_whose_record_is_lost_is_listed_as_failed_beside_the_others_and_terminated() {
    let home = Home::new();
    home.run("engine launch whole --type cpu").ok();
    for damaged in [None, Some("{ not")] {
        home.run("engine launch broken --type cpu").ok();
        home.run("studio create --size 1").ok();
        home.run("studio attach broken").ok();
        let file = record(&home, "broken");
        fs::remove_file(&file).expect("removed");
        damaged.iter().for_each(|text| fs::write(&file, text).expect("written"));
        let engines = home.run("engine list --output json").ok().json()["engines"].take();
        let states: Vec<_> = engines.as_array().expect("engines").iter().map(|e| (&e["name"], &e["state"])).collect();
        assert_eq!(states, [(&"broken".into(), &"failed".into()), (&"whole".into(), &"running".into())]);
        let reason = home.engine("broken")["state_reason"]["message"].to_string();
        assert!(reason.contains("machine.json"), "{reason}");
        home.run("engine start broken").fails(14, "machine.json");
        home.run("studio detach").ok();
        home.run("studio delete -y").ok();
        home.run("engine terminate broken -y").ok();
        home.run("engine status broken").fails(3, "No engine");
    }
    home.run("engine terminate whole -y").ok();
    no_machine_is_left(&home);
}

#[test]
fn what_a_lost_state_knew_is_shown_by_the_doctor_and_adopted() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    home.run("studio create --size 1").ok();
    home.run("studio attach work").ok();
    let before = home.run("studio status --output json").ok().json()["studio"].take();
    let id = home.engine("work")["id"].clone();
    fs::remove_dir_all(home.dh_home().join("state")).expect("the state is removed");
    let shown = home.run("doctor");
    assert_eq!(shown.code, 1, "{shown:?}");
    for lost in [id.as_str().expect("an id"), before["id"].as_str().expect("a volume"), "dh doctor --adopt"] {
        assert!(shown.stdout.contains(lost), "{lost} is not in:\n{}", shown.stdout);
    }

    let adopted = home.run("doctor --adopt").stdout;
    assert!(adopted.contains("engine 'work'") && adopted.contains("studio of alice"), "{adopted}");
    assert!(!adopted.contains("is in no record"), "{adopted}");
    let engines = home.run("engine list --output json").ok().json()["engines"].take();
    assert_eq!((&engines[0]["id"], &engines[0]["state"]), (&id, &"running".into()), "{engines}");
    let after = home.run("studio status --output json").ok().json()["studio"].take();
    for field in ["id", "status", "attached_to"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    home.run("studio detach").ok();
    home.run("studio attach work").ok();
    home.run("studio detach").ok();
    home.run("studio delete -y").ok();
    home.run("engine terminate work -y").ok();
    no_machine_is_left(&home);
}
