//! `dh engine config-ssh`, and the file it leaves.

use dh_core::domain::*;
use dh_core::ports::{MockControlPlane, SshEntry, SshTarget};

use super::world::*;

fn entry(engine: &str) -> SshEntry {
    let words = [
        "aws",
        "ssm",
        "start-session",
        "--target",
        "%h",
        "--document-name",
        "AWS-StartSSHSession",
        "--parameters",
        "portNumber=%p",
        "--profile",
        "dev-devaccess",
    ];
    SshEntry {
        engine: name(engine),
        user: user("alice"),
        target: SshTarget {
            host_name: ENGINE_ID.into(),
            user: "alice".into(),
            proxy_command: words.map(str::to_owned).to_vec(),
            options: Vec::new(),
        },
    }
}

fn running(environment: &str, engines: &'static [&'static str]) -> MockControlPlane {
    let mut plane = plane_of(environment);
    plane.expect_ssh_entries().returning(move |_, _| Ok(engines.iter().map(|engine| entry(engine)).collect()));
    plane
}

#[test]
fn the_managed_block_is_as_specified() {
    let world = World::new();
    let ran = world.run(running("dev", &["my-engine"]), "engine config-ssh");
    assert_eq!(ran.out, "✓ Updated SSH config with 1 engine(s)\n");
    assert_eq!(
        world.ssh_config(),
        "# BEGIN DAYHOFF ENGINES

Host my-engine
    HostName i-1234567890abcdef0
    User alice
    ProxyCommand aws ssm start-session --target %h --document-name AWS-StartSSHSession --parameters 'portNumber=%p' --profile dev-devaccess

# END DAYHOFF ENGINES
"
    );
}

#[test]
fn environments_keep_out_of_one_anothers_way() {
    let world = World::new();
    world.run(running("sand", &["s1"]), "engine config-ssh");
    world.run(running("dev", &["d1", "d2"]), "engine config-ssh");
    let both = world.ssh_config();
    assert_eq!(both.matches("Host ").count(), 3);
    assert!(both.contains("# Environment: sand\nHost s1\n"), "{both}");
    world.run(running("dev", &[]), "engine config-ssh");
    let left = world.ssh_config();
    assert!(left.contains("Host s1") && !left.contains("Host d1"), "{left}");
    let ran = world.run(plane(), "engine config-ssh --clean");
    assert_eq!(
        (ran.out.as_str(), world.ssh_config().as_str()),
        ("✓ Removed all managed entries from SSH config\n", "")
    );
}

#[test]
fn an_automatic_update_asks_the_way_it_was_last_asked() {
    let world = World::new();
    world.run(running("dev", &["a"]), "engine config-ssh --all --admin");
    assert!(world.ssh_config().contains("# Environment: dev (all users, administrator)\n"));
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    plane.expect_ssh_entries().withf(|all, admin| *all && *admin).times(1).returning(|_, _| Ok(vec![entry("a")]));
    will_run(&mut plane, |_, _| true, Vec::new());
    assert_eq!(world.run(plane, "engine start my-engine").code, 0);
}

#[test]
fn a_damaged_block_is_named_and_left_alone() {
    let world = World::new();
    let folder = world.home.path().join(".ssh");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), "Host x\n# BEGIN DAYHOFF ENGINES\n").unwrap();
    let ran = world.run(running("dev", &["a"]), "engine config-ssh");
    assert_eq!(ran.code, ErrorKind::Config.exit_code());
    assert!(ran.err.contains("the block that begins on line 2 does not end"), "{}", ran.err);
    assert_eq!(world.ssh_config(), "Host x\n# BEGIN DAYHOFF ENGINES\n");
}

#[test]
fn a_damaged_block_does_not_fail_the_start_of_an_engine() {
    let world = World::new();
    std::fs::create_dir(world.home.path().join(".ssh")).unwrap();
    std::fs::write(world.home.path().join(".ssh/config"), "# END DAYHOFF ENGINES\n").unwrap();
    let mut plane = running("dev", &["a"]);
    plane.expect_engine().returning(|_| Ok(engine()));
    will_run(&mut plane, |_, _| true, Vec::new());
    let ran = world.run(plane, "engine start my-engine");
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("⚠ The SSH config could not be updated"), "{}", ran.err);
}

#[test]
fn an_entry_of_the_users_own_is_pointed_out() {
    let world = World::new();
    std::fs::create_dir(world.home.path().join(".ssh")).unwrap();
    std::fs::write(world.home.path().join(".ssh/config"), "\nHost other my-engine\n    User bob\n").unwrap();
    let ran = world.run(running("dev", &["my-engine"]), "engine config-ssh");
    assert!(ran.err.contains("an entry of your own for 'my-engine' on line 2"), "{}", ran.err);
}

#[test]
fn a_pattern_of_the_users_own_that_hides_an_entry_is_pointed_out_until_the_block_is_above_it() {
    let world = World::new();
    let file = world.home.path().join(".ssh/config");
    std::fs::create_dir(world.home.path().join(".ssh")).unwrap();
    std::fs::write(&file, "Host *\n    ProxyJump gate\n").unwrap();
    let ran = world.run(running("dev", &["my-engine"]), "engine config-ssh");
    let told = "line 2 sets ProxyJump (of 'Host *') for 'my-engine' before dh's entries do, and ssh takes what comes first; \
                move the lines from '# BEGIN DAYHOFF ENGINES' to '# END DAYHOFF ENGINES' above line 1";
    assert!(ran.err.contains(told), "{}", ran.err);
    // As advised.
    let text = world.ssh_config();
    let (own, block) = text.split_at(text.find("# BEGIN").unwrap());
    std::fs::write(&file, format!("{block}{own}")).unwrap();
    assert_eq!(world.run(running("dev", &["my-engine"]), "engine config-ssh").err, "");
}

#[test]
fn where_ssh_reads_another_file_every_command_names_ours() {
    let world = World::new().with_listed_home("/nowhere");
    let ours = format!("ssh -F {}/.ssh/config", world.home.path().display());
    let with_engine = || {
        let mut plane = running("dev", &["my-engine"]);
        plane.expect_engine().returning(|_| Ok(engine()));
        plane
    };
    let ran = world.run(with_engine(), "engine config-ssh");
    assert!(
        ran.err.contains(&format!(
            "ssh reads /nowhere/.ssh/config, and HOME is another folder; connect with: {ours} NAME"
        ))
    );
    let mut plane = with_engine();
    will_run(&mut plane, |_, _| true, Vec::new());
    let ran = world.run(plane, "engine launch my-engine --type cpu");
    assert!(ran.out.ends_with(&format!("Connect with:\n  {ours} my-engine\n")), "{}", ran.out);
    let mut plane = with_engine();
    will_run(&mut plane, |_, _| true, Vec::new());
    let ran = world.run(plane, "engine launch my-engine --type cpu --skip-ssh-config");
    assert!(ran.out.contains(&format!("\n  {ours} my-engine  # Then use native SSH\n")), "{}", ran.out);
    let mut plane = with_engine();
    plane.expect_studio().returning(|_| Ok(attached("my-engine", ENGINE_ID)));
    will_run(&mut plane, |_, _| true, Vec::new());
    let ran = world.run(plane, "studio attach my-engine");
    assert!(ran.out.ends_with(&format!("Connect with:\n  {ours} my-engine\n")), "{}", ran.out);
    let mut plane = with_engine();
    will_run(&mut plane, |_, _| true, Vec::new());
    assert!(world.run(plane, "engine start my-engine").err.contains(&format!("connect with: {ours} NAME")));
}

#[test]
fn an_engine_without_ssh_is_reached_by_dhs_own_shell() {
    let with_engine = || {
        let mut plane = running("dev", &["my-engine"]);
        plane.expect_engine().returning(|_| {
            let mut view = engine();
            view.engine.bootstrap.stages.push(stage(StageName::ConfiguringSsh, StageStatus::Skipped, Some(0)));
            Ok(view)
        });
        plane.expect_studio().returning(|_| Ok(attached("my-engine", ENGINE_ID)));
        will_run(&mut plane, |_, _| true, Vec::new());
        plane
    };
    for line in [
        "engine launch my-engine --type cpu",
        "engine launch my-engine --type cpu --skip-ssh-config",
        "studio attach my-engine",
    ] {
        let ran = World::new().run(with_engine(), line);
        assert!(ran.out.ends_with("Connect with:\n  dh engine shell my-engine\n"), "{line}: {}", ran.out);
    }
}
