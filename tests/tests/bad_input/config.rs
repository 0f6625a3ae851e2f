//! A configuration file with a mistake in it.

use dh_tests::Home;

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_line_by_every_command() {
    for (toml, line, says) in [
        ("[environments.dev]\nbakend = \"local\"\n", 2, "unknown key bakend"),
        ("colour = true\n", 1, "unknown key colour"),
        (
            "[environments.dev]\n\n[environments.dev.defaults]\nidle_timeout = \"1h\"\nidle_timout = \"2h\"\n",
            5,
            "unknown key idle_timout",
        ),
        ("[environments.dev]\nbackend = \"moon\"\n", 2, "moon"),
        ("[environments.dev.defaults]\nidle_timeout = \"4d\"\n", 2, "2h30m"),
        ("[environments.dev.defaults]\nboot_disk_gb = 0\n", 2, "disk size"),
        ("# fine\n[environments.dev\n", 2, ""),
        ("[environments.\"a b\"]\n", 1, "space"),
    ] {
        let home = Home::new();
        home.configure(toml);
        let before = home.files();
        for command in ["engine list", "engine launch neu --type cpu", "studio status", "ops list", "config show"] {
            let ran = home.run(command).refused(16, says);
            let place = format!("config/config.toml line {line}:");
            assert!(ran.stderr.contains(&place), "{place} is missing from:\n{}", ran.stderr);
            assert_eq!(ran.stdout, "");
        }
        assert_eq!(home.files(), before, "{toml:?} made dh leave something behind");
        home.until_empty();
    }
}

#[test]
fn a_key_that_is_nearly_one_is_told_which() {
    let home = Home::new();
    home.configure("[environments.dev]\nbakend = \"local\"\n");
    let told = home.run("engine list").refused(16, "unknown key bakend in [environments.dev]").stderr;
    assert!(told.contains("Did you mean backend?"), "{told}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_no_configuration_that_is_missing() {
    let home = Home::new();
    std::fs::create_dir_all(home.dh_home().join("config/config.toml")).expect("a folder in its place");
    home.run("engine list").refused(16, "annot read the configuration");
    std::fs::remove_dir(home.dh_home().join("config/config.toml")).expect("it is empty");
    std::fs::write(home.dh_home().join("config/config.toml"), b"\xff\xfe[").expect("the file");
    home.run("engine list").refused(16, "config.toml");
}
