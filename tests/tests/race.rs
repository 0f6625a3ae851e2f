//! Many processes at once.

use std::process::Stdio;

use dh_tests::{Home, Ran};

#[test]
fn of_fifty_processes_that_attach_one_studio_one_wins_and_the_others_are_told_who_has_it() {
    let home = Home::new();
    home.run("engine launch left --type cpu").ok();
    home.run("engine launch right --type cpu").ok();
    home.run("studio create --size 1").ok();
    let racers: Vec<_> = (0..50)
        .map(|n| {
            let engine = if n % 2 == 0 { "left" } else { "right" };
            home.command("dh")
                .args(["studio", "attach", engine, "--skip-ssh-config"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("dh starts")
        })
        .collect();
    let outcomes: Vec<Ran> =
        racers.into_iter().map(|racer| racer.wait_with_output().expect("dh ends").into()).collect();
    let (winners, losers): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|ran| ran.code == 0);
    assert_eq!(winners.len(), 1, "{losers:#?}");
    for loser in losers {
        let said = loser.fails(5, "tudio is not available").stderr;
        assert!(said.contains("left") || said.contains("right"), "not told who has it: {said}");
    }
    let studio = home.run("studio status --output json").ok().json();
    assert_eq!(studio["studio"]["status"], "attached");
    home.run("studio detach").ok();
    home.run("studio delete -y").ok();
    home.run("engine terminate left -y").ok();
    home.run("engine terminate right -y").ok();
    home.until_empty();
}
