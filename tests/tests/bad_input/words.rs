//! What is typed.

use dh_tests::Home;

use super::refused;

/// Runs a command line in a home in which nothing has ever been done; nothing may be made there.
fn refused_at_once(words: &[&str], code: i32, says: &str) -> String {
    let home = Home::new();
    let ran = home.dh(words.iter().copied()).refused(code, says);
    assert_eq!(ran.stdout, "", "{words:?}");
    assert!(home.files().is_empty(), "{words:?} left {:?}", home.files());
    assert!(home.processes().is_empty(), "{words:?}");
    ran.stderr
}

#[test]
fn names_that_cannot_be_one_are_refused_with_the_form_of_those_that_can() {
    let long = "a".repeat(300);
    for (name, says) in [
        ("", "is empty"),
        (long.as_str(), "has 300 characters"),
        ("two words", "has a space in it"),
        ("../up", "begins with '.'"),
        ("a/b", "has '/' in it"),
        (".", "begins with '.'"),
        ("a\nb", "has"),
    ] {
        let told = refused_at_once(&["engine", "launch", name, "--type", "cpu"], 2, says);
        assert!(told.contains("Choose a name of 1 to 63"), "{told}");
        for command in [&["engine", "status"][..], &["engine", "stop"], &["studio", "attach"]] {
            refused_at_once(&[command, &[name]].concat(), 2, says);
        }
        refused_at_once(&["studio", "create", "--user", name], 2, says);
        refused_at_once(&["engine", "list", "--env", name], 2, says);
    }
    refused_at_once(&["engine", "launch", "-x", "--type", "cpu"], 2, "-x");
    refused_at_once(&["engine", "launch", "--type", "cpu", "--", "-x"], 2, "begins with '-'");
}

#[test]
fn sizes_that_are_none_are_refused() {
    for size in ["0", "-1", "-200", "ten", "1.5", "10GB", "", "99999999999999999999", "16385", "NaN"] {
        for command in [
            &["engine", "launch", "neu", "--type", "cpu", "--size"][..],
            &["engine", "resize", "neu", "--size"],
            &["studio", "create", "--size"],
            &["studio", "resize", "-s"],
        ] {
            let told = refused_at_once(&[command, &[size]].concat(), 2, "is not a disk size");
            assert!(told.contains("from 1 to 16384"), "{told}");
        }
    }
}

#[test]
fn durations_are_taken_in_one_form_and_refused_in_every_other() {
    for duration in
        ["", "4", "h", "4d", "1.5h", "-5m", "2h 30m", "30m2h", "0s", "0h0m", "4H", "1h1h", "99999999999999h", "∞"]
    {
        for command in [
            &["engine", "coffee", "neu"][..],
            &["engine", "idle", "neu", "--set"],
            &["engine", "launch", "neu", "--type", "cpu", "--idle-timeout"],
        ] {
            let told = refused_at_once(&[command, &[duration]].concat(), 2, "is not a duration");
            assert!(told.contains("4h, 2h30m, 45m"), "the accepted form is missing:\n{told}");
        }
    }
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    for (duration, shown) in [("4h", "4h"), ("2h30m", "2h30m"), ("45m", "45m"), ("90s", "1m30s")] {
        let ran = home.run(&format!("engine coffee work {duration}")).ok();
        assert_eq!(ran.stdout, format!("✓ Coffee lock set for 'work': {shown}\n"));
        home.run(&format!("engine idle work --set {duration}")).ok();
    }
}

#[test]
fn arguments_that_are_missing_unknown_or_at_odds_are_refused_in_the_same_form() {
    for (line, says) in [
        ("engine launch", "<NAME>"),
        ("engine launch neu --tpye cpu", "--tpye"),
        ("engine lst", "'lst'"),
        ("engin list", "'engin'"),
        ("engine coffee neu", "<DURATION>"),
        ("engine coffee neu 4h --cancel", "cannot be used with"),
        ("engine resize neu", "--size"),
        ("engine exec neu", "<COMMAND>"),
        ("engine exec neu ls", "ls"),
        ("engine config-ssh --clean --all", "cannot be used with"),
        ("engine logs neu --source wishes", "wishes"),
        ("engine logs neu -n many", "\"many\" is not a number"),
        ("engine logs neu -n -5", "\"-5\" is not a number"),
        ("engine list --output yaml", "yaml"),
        ("ops show ../x", "op"),
        ("ops show", "<OPERATION>"),
        ("completions ksh", "ksh"),
    ] {
        refused_at_once(&line.split(' ').collect::<Vec<_>>(), 2, says);
    }
    let told = refused_at_once(&["engine", "launch", "neu", "--tpye", "cpu"], 2, "--tpye");
    assert!(told.contains("--type"), "no option like it is suggested:\n{told}");
}

#[test]
fn an_unknown_type_is_told_with_all_known_ones() {
    let home = Home::new();
    home.run("engine list").ok();
    for words in [
        &["engine", "launch", "neu", "--type", "gpu9"][..],
        &["engine", "launch", "neu", "--type", ""],
        &["engine", "launch", "neu"],
    ] {
        let told = refused(&home, words, 2, "engine type");
        for known in ["cpu", "cpumax", "t4", "a10g", "a100", "4_t4", "8_t4", "4_a10g", "8_a10g"] {
            assert!(told.contains(known), "{known} is missing:\n{told}");
        }
    }
}

#[test]
fn what_does_not_exist_is_told_with_what_is_nearest() {
    let home = Home::new();
    home.run("engine launch training-job --type cpu").ok();
    for words in [
        &["engine", "status", "trainingjob"][..],
        &["engine", "stop", "training-jbo"],
        &["engine", "start", "trainig-job"],
        &["engine", "terminate", "training", "-y"],
        &["engine", "coffee", "training_job", "1h"],
        &["engine", "idle", "training-jo"],
        &["engine", "debug", "trainingjob"],
        &["engine", "why", "trainingjob"],
        &["engine", "logs", "trainingjob"],
        &["engine", "exec", "trainingjob", "--", "true"],
        &["engine", "shell", "trainingjob"],
        &["engine", "resize", "trainingjob", "-s", "99", "-f"],
        &["studio", "attach", "trainingjob"],
    ] {
        let told = refused(&home, words, 3, "No engine '");
        assert!(told.contains("Did you mean training-job?"), "{told}");
    }
    let told = refused(&home, &["engine", "status", "xyz"], 3, "No engine 'xyz' in environment dev");
    assert!(told.contains("dh engine list") && !told.contains("Did you mean"), "{told}");
    refused(&home, &["engine", "status", "i-00000000000000000"], 3, "No engine 'i-0");
    refused(&home, &["ops", "show", "op-000000000000"], 3, "dh ops list");
    refused(&home, &["ops", "resume", "op-000000000000"], 3, "dh ops list");
    refused(&home, &["engine", "list", "--env", "prod"], 3, "Use one of: dev");
    let told = refused(&home, &["studio", "status"], 3, "You have no studio");
    assert!(told.ends_with("Create one with: dh studio create\n"), "{told}");
    let told = refused(&home, &["studio", "detach", "--user", "bob"], 3, "User 'bob' has no studio");
    assert!(told.contains("dh studio create --user bob"), "{told}");
}
