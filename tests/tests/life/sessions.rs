//! Getting in: by ssh, scp and sftp through the written configuration, and by a shell on a terminal.

use std::process::{Command, Stdio};

use dh_tests::{Home, Ran, Terminal, have};

fn openssh() -> bool {
    have("sshd", "openssh-server") && ["ssh", "scp", "sftp"].iter().all(|program| have(program, "openssh-client"))
}

/// One of OpenSSH's programs with the configuration that dh wrote: by itself it reads that of the account, not of `HOME`.
fn client(home: &Home, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", home.path()).arg("-F").arg(home.path().join(".ssh/config")).args(["-o", "BatchMode=yes"]);
    command
}

#[test]
fn ssh_scp_and_sftp_work_by_the_engines_name() {
    if !openssh() {
        return;
    }
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let run = |command: &mut Command| Ran::from(command.stdin(Stdio::null()).output().expect("it starts"));

    let ran = run(client(&home, "ssh").args(["work", "echo \"$DH_ENGINE $DH_SESSION\"; pwd; exit 5"]));
    let pwd = home.on("work", "pwd");
    assert_eq!((ran.code, ran.stdout.as_str()), (5, format!("work ssh\n{pwd}\n").as_str()), "{ran:?}");

    let (up, down) = (home.path().join("up load"), home.path().join("down"));
    std::fs::write(&up, "carried\n").expect("a file");
    run(client(&home, "scp").arg("-q").arg(&up).arg("work:there")).ok();
    assert_eq!(home.on("work", "cat there"), "carried");
    run(client(&home, "scp").arg("-q").arg("work:there").arg(&down)).ok();
    assert_eq!(std::fs::read_to_string(&down).expect("the copy"), "carried\n");

    let batch = home.path().join("batch");
    std::fs::write(&batch, format!("rename there elsewhere\nput \"{}\" again\nls\n", up.display())).expect("a batch");
    let ran = run(client(&home, "sftp").arg("-b").arg(&batch).arg("work")).ok();
    assert!(ran.stdout.contains("elsewhere") && ran.stdout.contains("again"), "{}", ran.stdout);
    assert_eq!(home.on("work", "cat elsewhere again"), "carried\ncarried");

    home.run("engine stop work").ok();
    let ran = run(client(&home, "ssh").args(["work", "true"]));
    assert_eq!(ran.code, 255);
    assert!(ran.stderr.contains("dh engine start"), "{}", ran.stderr);
    home.run("engine terminate work -y").ok();
    home.run("engine config-ssh").ok();
    let config = std::fs::read_to_string(home.path().join(".ssh/config")).expect("the configuration");
    assert!(!config.contains("Host work"), "{config}");
}

#[test]
fn a_shell_on_a_terminal_is_a_login_on_the_engine() {
    let home = Home::new();
    home.run("engine launch work --type cpu").ok();
    let mut command = home.command("dh");
    command.args(["engine", "shell", "work"]);
    let mut terminal = Terminal::start(command);
    // The quotes keep what is typed from reading like what is answered.
    terminal.type_in("echo \"on $DH_EN''GINE by $DH_SES''SION\" | tr -d \"'\"; test -t 0 && echo with a ter''minal\r");
    terminal.until_shown("with a terminal");
    terminal.type_in("echo \"I am on $DH_ENGINE\"\r");
    terminal.until_shown("I am on work");
    terminal.type_in("echo from the shell > made; exit 4\r");
    assert_eq!(terminal.ended().code(), Some(4));
    assert_eq!(home.on("work", "cat made"), "from the shell");
}

#[test]
fn on_a_terminal_dh_asks_before_it_terminates_and_shows_a_bar_while_it_launches() {
    let home = Home::new();
    let on_terminal = |line: &str| {
        let mut command = home.command("dh");
        command.args(line.split_whitespace());
        Terminal::start(command)
    };
    let mut launch = on_terminal("engine launch work --type cpu");
    launch.until_shown("Engine ready!");
    assert!(launch.ended().success());
    assert!(launch.shown().contains("Progress") && launch.shown().contains("100%"), "{}", launch.shown());

    let mut declined = on_terminal("engine terminate work");
    declined.until_shown("[y/N]: ");
    declined.type_in("\r");
    assert_eq!(declined.ended().code(), Some(1));
    declined.until_shown("nothing was done");
    assert_eq!(home.engine("work")["state"], "running");

    let mut agreed = on_terminal("engine terminate work");
    agreed.until_shown("[y/N]: ");
    agreed.type_in("y\r");
    assert!(agreed.ended().success());
    home.run("engine status work").refused(3, "No engine 'work'");
}
