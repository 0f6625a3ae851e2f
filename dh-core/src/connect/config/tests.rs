use super::*;

const FULL: &str = r#"
# A comment.
[environments.dev]
backend = "local"
region = "here"
profile = "mine"
setup_script = "setup.sh"
primordial = "/srv/shared"
filesystem = "xfs"

[environments.dev.defaults]
engine_type = "cpu"
boot_disk_gb = 50
studio_gb = 200
idle_timeout = "10s"
idle_warning = "1m"
idle_action = "hibernate"

[environments.prod]
region = "eu-west-1"
profile = "prod-access"
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("/c/config.toml"))
}

fn name(text: &str) -> EnvironmentName {
    EnvironmentName::new(text).unwrap()
}

#[test]
fn a_full_file_is_read() {
    let config = parse(FULL).unwrap();
    let dev = config.environment(&name("dev")).unwrap();
    assert_eq!((dev.backend, dev.filesystem), (BackendKind::Local, Filesystem::Xfs));
    assert_eq!(dev.setup_script.as_deref(), Some(Path::new("/c/setup.sh")), "beside the file");
    assert_eq!(dev.primordial.as_deref(), Some(Path::new("/srv/shared")));
    let defaults = &dev.defaults;
    assert_eq!(defaults.engine_type.as_deref(), Some("cpu"));
    assert_eq!(
        (defaults.boot_disk_gb, defaults.studio_gb),
        (Some(SizeGb::new(50).unwrap()), Some(SizeGb::new(200).unwrap()))
    );
    let policy = defaults.idle_policy();
    assert_eq!((policy.idle_timeout.as_secs(), policy.warning.as_secs()), (10, 60));
    assert_eq!(policy.action, StopMode::Hibernate);
    let prod = config.environment(&name("prod")).unwrap();
    assert_eq!((prod.region.as_deref(), prod.profile.as_deref()), (Some("eu-west-1"), Some("prod-access")));
    assert_eq!(prod.defaults.idle_policy(), IdlePolicy::default());
}

#[test]
fn what_is_shown_is_read_back() {
    let config = parse(FULL).unwrap();
    let shown = toml::to_string(&config).unwrap();
    assert_eq!(parse(&shown).unwrap(), config);
}

#[test]
fn the_lists_of_keys_are_those_of_the_types() {
    let shown = toml::Value::try_from(parse(FULL).unwrap()).unwrap();
    let keys =
        |value: &toml::Value| value.as_table().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let listed = |list: &[&str]| list.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(keys(&shown), listed(file::TOP_KEYS));
    assert_eq!(keys(&shown["environments"]["dev"]), listed(file::ENVIRONMENT_KEYS));
    assert_eq!(keys(&shown["environments"]["dev"]["defaults"]), listed(file::DEFAULTS_KEYS));
}

#[test]
fn no_file_and_an_empty_one_have_dev_on_the_local_backend() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Config::load(&Paths::under(folder.path())).unwrap();
    for config in [missing, parse("").unwrap(), parse("[environments]").unwrap()] {
        assert_eq!(config.environments().len(), 1);
        assert_eq!(config.choose(Some(&name("dev"))).unwrap().1.backend, BackendKind::Local);
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known() {
    for (text, line, key, near) in [
        ("[environments.dev]\nregoin = \"x\"\n", 2, "regoin", "did you mean region?"),
        ("\n\nenvironment = 3\n", 3, "environment", "did you mean environments?"),
        (
            "[environments.dev]\n[environments.dev.defaults]\nidle-timeout = \"4h\"",
            3,
            "idle-timeout",
            "mean idle_timeout?",
        ),
        ("[environments.dev]\ndefaults = { studio = 3 }", 2, "studio", "studio_gb"),
        ("[environments.dev]\n\n# é\ncolour = \"blue\"", 4, "colour", "the keys of [environments.dev] are: backend"),
        // Of two, the one that comes first.
        ("[environments.dev]\nzzz = 1\naaa = 2", 2, "zzz", "are:"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.message();
        assert!(message.starts_with(&format!("/c/config.toml line {line}: unknown key {key} in ")), "{message}");
        assert!(error.hint().unwrap().contains(near), "{:?}", error.hint());
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    for (text, line, says) in [
        ("[environments.dev]\nbackend = \"lokal\"", 2, "expected `local`"),
        ("[environments.dev]\nfilesystem = \"zfs\"", 2, "`ext4` or `xfs`"),
        ("[environments.dev]\nregion = 3", 2, "integer `3`"),
        ("[environments.dev.defaults]\nidle_timeout = \"30 minutes\"", 2, "such as 4h, 2h30m"),
        ("[environments.dev.defaults]\nidle_timeout = 30", 2, "expected a string"),
        ("[environments.dev.defaults]\nstudio_gb = 0", 2, "0 GB is not a disk size"),
        ("[environments.dev.defaults]\nstudio_gb = \"big\"", 2, "string \"big\""),
        ("[environments]\ndev = 3", 2, "integer `3`"),
        ("environments = []", 1, "expected a map"),
        ("[environments.\"a/b\"]", 1, "has '/' in it"),
        ("[environments.dev]\nbackend = ", 2, ""),
        ("[environments.dev]\nregion = \"a\"\nregion = \"b\"", 3, "duplicate key"),
        ("what is this?", 1, ""),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(error.message().starts_with(&format!("/c/config.toml line {line}: ")), "{text}: {error}");
        assert!(error.message().contains(says), "{text}: {error}");
        assert!(error.hint().is_some() && !error.message().contains('\n'), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::under(folder.path());
    std::fs::create_dir_all(paths.config_dir()).unwrap();
    std::fs::write(paths.config_file(), b"\xff\xfe").unwrap();
    let error = Config::load(&paths).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains(paths.config_file().to_str().unwrap()));
}

#[test]
fn an_unknown_environment_lists_the_known() {
    let error = parse(FULL).unwrap().choose(Some(&name("sand"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("dev, prod"), "{:?}", error.hint());
}
