//! The tables of the specification.

use dh_core::domain::*;
use unicode_width::UnicodeWidthStr;

use super::world::*;

fn engines() -> Vec<EngineView> {
    let rows = [
        ("alice-work", EngineState::Running, "alice", "cpu", "i-0123456789abcdef0"),
        ("bob-training", EngineState::Running, "bob", "a10g", "i-0fedcba987654321"),
        ("batch-worker", EngineState::Stopped, "charlie", "cpumax", "i-0abc123def456789"),
    ];
    let view = |(engine_name, state, owner, engine_type, id): (&str, EngineState, &str, &str, &str)| {
        let mut view = engine();
        view.engine.name = name(engine_name);
        view.engine.user = user(owner);
        view.engine.engine_type = engine_type.into();
        view.engine.machine = Some(MachineId::new(id).unwrap());
        view.state = state;
        view
    };
    rows.into_iter().map(view).collect()
}

fn studios() -> Vec<Studio> {
    let mut bob = Studio { user: user("bob"), size_gb: SizeGb::new(200).unwrap(), ..studio() };
    bob.volume = Some(VolumeId::new("vol-0fedcba987654321").unwrap());
    let mut carol = attached("carol-gpu", ENGINE_ID);
    carol.user = user("carol");
    carol.status = StudioStatus::Attaching;
    carol.size_gb = SizeGb::new(150).unwrap();
    carol.volume = Some(VolumeId::new("vol-0abc123def456789").unwrap());
    vec![attached("alice-work", ENGINE_ID), bob, carol]
}

fn list(world: World, line: &str) -> Ran {
    let mut plane = plane();
    plane.expect_engines().returning(|| Ok(engines()));
    plane.expect_studios().returning(|| Ok(studios()));
    world.run(plane, line)
}

#[test]
fn engines_are_listed_as_specified() {
    assert_eq!(
        list(World::new(), "engine list").out,
        "
Engines for environment dev
╭──────────────┬─────────────┬─────────────┬─────────────┬─────────────────────╮
│ Name         │ State       │ User        │ Type        │ Instance ID         │
├──────────────┼─────────────┼─────────────┼─────────────┼─────────────────────┤
│ alice-work   │ running     │ alice       │ cpu         │ i-0123456789abcdef0 │
│ bob-training │ running     │ bob         │ a10g        │ i-0fedcba987654321  │
│ batch-worker │ stopped     │ charlie     │ cpumax      │ i-0abc123def456789  │
╰──────────────┴─────────────┴─────────────┴─────────────┴─────────────────────╯
Total: 3

"
    );
}

#[test]
fn studios_are_listed_as_specified() {
    assert_eq!(
        list(World::new(), "studio list").out,
        "
Studios for environment dev
╭────────┬──────────────┬──────────────┬───────────┬───────────────────────────╮
│ User   │ Status       │ Attached To  │ Size      │ Studio ID                 │
├────────┼──────────────┼──────────────┼───────────┼───────────────────────────┤
│ alice  │ attached     │ alice-work   │ 100GB     │ vol-0123456789abcdef0     │
│ bob    │ available    │ -            │ 200GB     │ vol-0fedcba987654321      │
│ carol  │ attaching    │ carol-gpu    │ 150GB     │ vol-0abc123def456789      │
╰────────┴──────────────┴──────────────┴───────────┴───────────────────────────╯
Total: 3

"
    );
}

#[test]
fn names_states_and_ids_have_the_colours_specified() {
    let out = list(World::new().in_colour(), "engine list").out;
    for coloured in [
        "\u{1b}[34malice-work\u{1b}[0m",
        "\u{1b}[32mrunning\u{1b}[0m",
        "\u{1b}[90mstopped\u{1b}[0m",
        "\u{1b}[90mi-0123456789abcdef0\u{1b}[0m",
    ] {
        assert!(out.contains(coloured), "{coloured:?}");
    }
    let out = list(World::new().in_colour(), "studio list").out;
    for coloured in ["\u{1b}[35mattached\u{1b}[0m", "\u{1b}[32mavailable\u{1b}[0m", "\u{1b}[33mattaching\u{1b}[0m"] {
        assert!(out.contains(coloured), "{coloured:?}");
    }
}

#[test]
fn tables_shrink_to_a_narrow_terminal_and_stay_whole() {
    for columns in [40, 57, 79, 80, 200] {
        let out = list(World::new().on_columns(columns), "engine list").out;
        let widths: Vec<usize> =
            out.lines().filter(|line| line.starts_with(['│', '╭', '├', '╰'])).map(|line| line.width()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= columns), "{columns}\n{out}");
    }
    insta::assert_snapshot!(list(World::new().on_columns(40), "engine list").out, @r"

    Engines for environment dev
    ╭───────┬───────┬───────┬───────┬──────╮
    │ Name  │ State │ User  │ Type  │ Ins… │
    ├───────┼───────┼───────┼───────┼──────┤
    │ alic… │ runn… │ alice │ cpu   │ i-0… │
    │ bob-… │ runn… │ bob   │ a10g  │ i-0… │
    │ batc… │ stop… │ char… │ cpum… │ i-0… │
    ╰───────┴───────┴───────┴───────┴──────╯
    Total: 3
    ");
}

#[test]
fn an_empty_list_says_what_to_do() {
    let mut plane = plane();
    plane.expect_engines().returning(|| Ok(Vec::new()));
    let ran = World::new().run(plane, "engine list");
    assert!(ran.out.contains("Total: 0"));
    assert!(ran.err.contains("dh engine launch"));
}
