use dh_core::domain::{EngineName, ErrorKind, UserName};
use dh_core::ports::{SshEntry, SshTarget};
use proptest::prelude::*;

use super::*;

fn entry(name: &str) -> SshEntry {
    SshEntry {
        engine: EngineName::new(name).unwrap(),
        user: UserName::new("alice").unwrap(),
        target: SshTarget {
            host_name: format!("i-{name}"),
            user: "alice".into(),
            proxy_command: vec!["/opt/dh agent".into(), "connect".into(), "%h".into()],
            options: vec![("StrictHostKeyChecking".into(), "no".into()), ("IdentityFile".into(), "/my keys/id".into())],
        },
    }
}

fn in_environment(environment: &str) -> Section {
    Section { environment: environment.into(), all: false, admin: false }
}

fn updated(text: &[u8], environment: &str, names: &[&str]) -> Vec<u8> {
    let entries: Vec<SshEntry> = names.iter().map(|name| entry(name)).collect();
    edit(text, Some((&in_environment(environment), &entries))).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn an_entry_has_its_options_quoted_as_ssh_reads_them() {
    assert_eq!(
        text(&updated(b"", "dev", &["a"])),
        "# BEGIN DAYHOFF ENGINES

Host a
    HostName i-a
    User alice
    ProxyCommand '/opt/dh agent' connect %h
    StrictHostKeyChecking no
    IdentityFile \"/my keys/id\"

# END DAYHOFF ENGINES
"
    );
}

#[test]
fn a_file_with_windows_line_breaks_keeps_them() {
    let edited = updated(b"Host x\r\n  User y\r\n", "dev", &["a"]);
    assert!(text(&edited).starts_with("Host x\r\n  User y\r\n# BEGIN DAYHOFF ENGINES\r\n\r\nHost a\r\n"));
    assert_eq!(text(&edited).matches('\n').count(), text(&edited).matches("\r\n").count());
    assert_eq!(edit(&edited, None).unwrap(), b"Host x\r\n  User y\r\n");
}

#[test]
fn sections_of_other_environments_keep_their_bytes_and_place() {
    let first = updated(b"", "prod", &["p"]);
    let second = updated(&first, "sand", &["s"]);
    let third = updated(&second, "dev", &["d"]);
    let order: Vec<usize> = ["Host d", "# Environment: prod", "Host p", "# Environment: sand", "Host s"]
        .iter()
        .map(|part| text(&third).find(part).unwrap())
        .collect();
    assert!(order.is_sorted(), "{}", text(&third));
    let again = updated(&third, "prod", &["p2"]);
    assert!(text(&again).find("Host p2") < text(&again).find("# Environment: sand"));
}

#[test]
fn what_the_user_wrote_into_anothers_section_stays() {
    let block =
        "# BEGIN DAYHOFF ENGINES\n# Environment: sand\nHost s\n    Port 2222 # mine\n# END DAYHOFF ENGINES\nHost z\n";
    let edited = updated(block.as_bytes(), "dev", &["d"]);
    assert!(text(&edited).contains("# Environment: sand\nHost s\n    Port 2222 # mine\n"));
    assert!(text(&edited).ends_with("# END DAYHOFF ENGINES\nHost z\n"));
}

#[test]
fn how_a_section_was_asked_for_is_remembered() {
    let asked = Section { environment: "dev".into(), all: true, admin: true };
    let edited = edit(b"", Some((&asked, &[entry("a")]))).unwrap();
    assert_eq!(section(&edited, "dev").unwrap(), Some(asked));
    assert_eq!(section(&edited, "sand").unwrap(), None);
    let old = updated(b"", "dev", &["a"]);
    assert_eq!(section(&old, "dev").unwrap(), Some(in_environment("dev")));
}

#[test]
fn damaged_blocks_are_refused_with_their_lines() {
    for (damaged, told) in [
        ("a\n# BEGIN DAYHOFF ENGINES\nb\n", "begins on line 2 does not end"),
        ("a\nb\n# END DAYHOFF ENGINES\n", "ends on line 3 does not begin"),
        ("# END DAYHOFF ENGINES\n# BEGIN DAYHOFF ENGINES\n", "ends on line 1 before it begins on line 2"),
        (
            "# BEGIN DAYHOFF ENGINES\n# BEGIN DAYHOFF ENGINES\n# END DAYHOFF ENGINES\n",
            "more than one block: '# BEGIN DAYHOFF ENGINES' on line 1, 2",
        ),
    ] {
        let error = edit(damaged.as_bytes(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(told), "{error}");
        assert!(error.hint().unwrap().contains("nothing was changed"));
    }
}

#[test]
fn own_entries_are_found_outside_the_block_only() {
    let file = updated(b"HOST x \"b\" y\nhost=a\nHost *\n# Host c\n", "dev", &["a", "c"]);
    assert_eq!(users_own_hosts(&file, &["a", "b", "c"]), [("b", 1), ("a", 2)]);
}

#[test]
fn no_entries_leave_no_block() {
    let with = updated(b"Host x\n", "dev", &["a"]);
    assert_eq!(updated(&with, "dev", &[]), b"Host x\n");
    assert_eq!(updated(b"Host x\n", "dev", &[]), b"Host x\n");
}

/// Any bytes without markers: the user's own file, valid or not.
fn users_text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "[ -~]{0,30}",
        Just("Host *".to_owned()),
        Just("# Environment: dev".to_owned()),
        Just("# BEGIN DAYHOFF ENGINES of mine".to_owned()),
        Just(String::new()),
    ];
    let lines = proptest::collection::vec((line, prop_oneof![Just("\n"), Just("\r\n")]), 0..12);
    (lines, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(lines, end)| {
        let mut text: Vec<u8> =
            lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()].concat().into_bytes()).collect();
        text.extend(end);
        text
    })
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z][a-z0-9-]{0,8}", 0..4).prop_map(|names| names.into_iter().collect())
}

fn some_names() -> impl Strategy<Value = Vec<String>> {
    names().prop_filter("an entry", |names| !names.is_empty())
}

proptest! {
    #[test]
    fn cleaning_restores_every_byte(before in users_text(), dev in names(), sand in names()) {
        let mut edited = before.clone();
        for (environment, names) in [("dev", &dev), ("sand", &sand)] {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            edited = updated(&edited, environment, &names);
        }
        prop_assert_eq!(edit(&edited, None).unwrap(), before);
    }

    #[test]
    fn an_edit_made_twice_is_made_once(before in users_text(), names in names()) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let once = updated(&before, "sand", &names);
        prop_assert_eq!(&updated(&once, "sand", &names), &once);
    }

    #[test]
    fn text_around_the_block_survives_every_edit(before in users_text(), after in users_text(), old in some_names(), new in some_names()) {
        let before = if before.is_empty() { before } else { [&before[..], b"\n"].concat() };
        let list = |names: &[String]| names.iter().map(|name| entry(name)).collect::<Vec<_>>();
        let block = edit(b"", Some((&in_environment("dev"), &list(&old)))).unwrap();
        let file = [&before[..], &block, &after].concat();
        let edited = edit(&file, Some((&in_environment("dev"), &list(&new)))).unwrap();
        prop_assert!(edited.starts_with(&before));
        prop_assert!(edited.ends_with(&after));
        prop_assert_eq!(edit(&file, None).unwrap(), [before, after].concat());
    }

    #[test]
    fn no_input_makes_it_panic(text in proptest::collection::vec(prop_oneof![
        Just(&b"# BEGIN DAYHOFF ENGINES\n"[..]), Just(&b"# END DAYHOFF ENGINES"[..]), Just(&b"\n"[..]), Just(&b"Host a\r\n"[..])
    ], 0..8)) {
        let text = text.concat();
        if let Ok(edited) = edit(&text, Some((&in_environment("dev"), &[entry("a")]))) {
            prop_assert!(edit(&edited, None).is_ok());
        }
    }
}
