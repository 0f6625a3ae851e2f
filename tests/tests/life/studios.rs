//! Studios on engines that come and go.

use dh_tests::{Home, can, until};

fn mount_point(home: &Home) -> String {
    home.studio()["attached_to"]["mount_point"].as_str().expect("a mount point").to_owned()
}

fn attached(home: &Home, engine: &str) {
    home.run(&format!("engine launch {engine} --type cpu")).ok();
    home.run("studio create --size 1").ok();
    home.run(&format!("studio attach {engine}")).ok();
}

#[test]
fn a_studio_attached_when_its_engine_goes_idle_is_there_with_its_files_after_the_start() {
    let home = Home::new();
    attached(&home, "work");
    let studio = mount_point(&home);
    home.on("work", &format!("echo precious > {studio}/notes"));
    home.run("engine idle work --set 4s").ok();
    let engine = home.until_state("work", "stopped");
    assert_eq!(engine["state_reason"]["cause"], "idle");
    assert_eq!(home.studio()["status"], "attached", "it stays with its engine");

    home.run("engine start work").ok();
    home.run("engine idle work --set 30m").ok();
    assert_eq!(home.on("work", &format!("cat {studio}/notes")), "precious");
    home.run("studio detach").ok();
    assert!(!std::path::Path::new(&studio).join("notes").exists(), "it went with the studio");
    home.run("studio attach work").ok();
    assert_eq!(home.on("work", &format!("cat {}/notes", mount_point(&home))), "precious");
}

#[test]
fn a_larger_studio_has_a_larger_filesystem_on_the_next_attach() {
    let home = Home::new();
    attached(&home, "work");
    let studio = mount_point(&home);
    home.on("work", &format!("echo precious > {studio}/notes"));
    let size =
        || home.on("work", &format!("df -B1 --output=size {studio} | tail -1")).trim().parse::<u64>().expect("bytes");
    let before = size();
    home.run("studio resize --size 3 -y").refused(5, "must be detached");
    home.run("studio detach").ok();
    home.run("studio resize --size 3 -y").ok();
    assert_eq!(home.studio()["size_gb"], 3);
    home.run("studio attach work").ok();
    assert_eq!(home.on("work", &format!("cat {studio}/notes")), "precious");
    if can("studios are directories without root and loop devices", home.studio()["caveat"].is_null()) {
        let (before, after) = (before as f64 / 1e9, size() as f64 / 1e9);
        assert!((0.8..1.1).contains(&before) && (2.6..3.3).contains(&after), "{before} GB, then {after} GB");
    }
}

#[test]
fn a_studio_with_open_files_stays_and_whoever_holds_them_is_named() {
    let home = Home::new();
    attached(&home, "work");
    let studio = mount_point(&home);
    let script = format!("exec 3> {studio}/draft; echo here > up; exec sleep 1000");
    let mut holder = home.spawn(["engine", "exec", "work", "--", "sh", "-c", &script]);
    let sign = home.machine_dir("work").join("disk/home/up");
    until("a file is open", || sign.exists().then_some(()));

    let refused = home.run("studio detach").refused(5, "in use");
    assert!(refused.stderr.contains("sleep (pid "), "{}", refused.stderr);
    assert_eq!(refused.stderr.matches("sleep (pid ").count(), 1, "told once:\n{}", refused.stderr);
    assert_eq!(home.studio()["status"], "attached");
    home.on("work", &format!("echo more > {studio}/other"));

    holder.kill().expect("it is ours");
    holder.wait().expect("it ends");
    until("nobody holds it", || (home.run("studio detach").code == 0).then_some(()));
    assert_eq!(home.studio()["status"], "available");
}
