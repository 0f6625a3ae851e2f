//! What dh keeps, and where: below `DH_HOME`, and nowhere else but in the SSH configuration.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use dh_tests::{Home, can, have};

/// Everything a person does in a day, each step checked.
fn a_day(home: &Home) {
    home.run("engine launch work --type cpu").ok();
    home.run("studio create --size 1").ok();
    home.run("studio attach work").ok();
    let studio = home.studio()["attached_to"]["mount_point"].as_str().expect("a mount point").to_owned();
    home.on("work", &format!("echo precious > {studio}/notes"));
    home.run("engine coffee work 1h").ok();
    home.run("engine coffee work --cancel").ok();
    home.run("engine idle work --set 1h").ok();
    home.run("engine status work --detailed").ok();
    home.run("engine why work").ok();
    home.run("studio detach").ok();
    home.run("studio resize --size 2 -y").ok();
    home.run("engine stop work --hibernate").ok();
    home.run("engine start work").ok();
    home.run("engine stop work").ok();
    home.run("engine resize work --size 60 -f").ok();
    home.run("engine start work").ok();
    home.run("studio attach work").ok();
    assert_eq!(home.on("work", &format!("cat {studio}/notes")), "precious");
    home.run("doctor").ok();
    home.run("ops list").ok();
    home.run("engine terminate work -y").ok();
    home.run("studio delete -y").ok();
}

/// What lies in the home, which is the folder for temporary files too, outside `DH_HOME`.
fn outside(home: &Home) -> Vec<PathBuf> {
    let below = home.dh_home();
    home.files().into_iter().filter(|path| !path.starts_with(&below)).collect()
}

fn nothing_but_the_ssh_config(home: &Home) {
    let found = outside(home);
    let expected = [home.path().join(".ssh"), home.path().join(".ssh/config")];
    assert_eq!(found, expected, "written outside DH_HOME");
    home.until_empty();
    for folder in ["data/engines", "data/volumes"] {
        let left: Vec<_> = std::fs::read_dir(home.dh_home().join(folder)).expect(folder).flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn nothing_is_written_outside_dh_home_but_the_ssh_configuration() {
    let home = Home::new();
    a_day(&home);
    nothing_but_the_ssh_config(&home);
}

#[test]
fn nor_for_somebody_who_is_not_root() {
    let root = rustix::process::geteuid().is_root();
    if !can("without root all other tests run as somebody else", root) || !have("setpriv", "util-linux") {
        return;
    }
    // Copies, for the builder's own folders may be closed to others.
    let place = tempfile::Builder::new().prefix("dh-nobody").tempdir().expect("a folder");
    let open = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    open(place.path());
    let test = std::env::current_exe().expect("this test's own path");
    let parts = [
        (test, "deps/life"),
        (dh_tests::programs().join("dh"), "dh"),
        (dh_tests::programs().join("dh-agent"), "dh-agent"),
    ];
    std::fs::create_dir(place.path().join("deps")).expect("a folder");
    for (from, to) in parts {
        let to = place.path().join(to);
        std::fs::copy(from, &to).expect("a copy");
        open(&to);
    }
    let nobody = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"])
        .arg(place.path().join("deps/life"))
        .args(["--exact", "outside::a_day_of_somebody_else", "--ignored", "--nocapture"])
        .env("TMPDIR", place.path())
        .current_dir(place.path())
        .output()
        .expect("setpriv starts");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

const NOBODY: u32 = 65_534;

#[test]
#[ignore = "run as another user by nor_for_somebody_who_is_not_root"]
fn a_day_of_somebody_else() {
    assert!(!rustix::process::geteuid().is_root());
    let home = Home::new();
    a_day(&home);
    nothing_but_the_ssh_config(&home);
}
