//! `dh-agent policy`: the idle policy in force.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use dh_core::backend::local::durable::write_json;
use dh_core::domain::{DURATION_MAX, Error, ErrorKind, IdlePolicy, Result, describe_duration};

use crate::layout::{Layout, load_config};
use crate::{files, poke};

/// The shortest timeout: a look a second is the most there is.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The arguments of `dh-agent policy`.
#[derive(Debug, Clone, Args)]
pub struct PolicyArgs {
    /// Sets the policy in this file, or on standard input.
    #[arg(long, value_name = "FILE|-")]
    pub set: Option<String>,
}

/// Sets the policy where one is given, and returns the one in force.
pub fn run(args: &PolicyArgs) -> Result<IdlePolicy> {
    let config = load_config()?;
    let layout = Layout::of(&config);
    let Some(source) = &args.set else { return Ok(in_force(&layout, &config.policy)) };
    let policy = parse(&text(source)?)?;
    layout.make()?;
    write_json(&layout.policy(), &policy)?;
    poke::poke(&layout.poke());
    Ok(policy)
}

/// Returns the policy that was set last, and the given one where none was or the file is not to be used.
pub fn in_force(layout: &Layout, otherwise: &IdlePolicy) -> IdlePolicy {
    match files::read(&layout.policy()).and_then(|text| text.map(|text| parse(&text)).transpose()) {
        Ok(Some(policy)) => policy,
        Ok(None) => otherwise.clone(),
        Err(error) => {
            tracing::warn!(error = %error.full_message(), "the policy that was set cannot be used");
            otherwise.clone()
        }
    }
}

fn text(source: &str) -> Result<String> {
    if source != "-" {
        return files::read(source.as_ref())?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no policy at {source}"))
                .with_hint("give a file, or '-' for standard input")
        });
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map(|_| text).map_err(|source| {
        Error::new(ErrorKind::InvalidArgument, "cannot read a policy from standard input").with_source(source)
    })
}

fn parse(text: &str) -> Result<IdlePolicy> {
    let refused = |error: Error| error.with_hint("set a timeout with: dh engine idle NAME --set 30m");
    let is_none = || Error::new(ErrorKind::InvalidArgument, "that is not an idle policy");
    // A list would be read, too, field by field.
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|source| refused(is_none().with_source(source)))?;
    let policy: IdlePolicy =
        serde_json::from_value(object.into()).map_err(|source| refused(is_none().with_source(source)))?;
    check(&policy)?;
    Ok(policy)
}

fn check(policy: &IdlePolicy) -> Result<()> {
    let refuse = |what: &str, duration: Duration, why: String| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("{what} of {} seconds {why}", duration.as_secs_f64()))
            .with_hint("set a timeout with: dh engine idle NAME --set 30m"))
    };
    let bounded = [("an idle timeout", Some(policy.idle_timeout)), ("a limit for blind sensors", policy.unknown_limit)];
    for (what, duration) in bounded {
        match duration {
            Some(duration) if duration < TIMEOUT_MIN => return refuse(what, duration, "is too short".into()),
            Some(duration) if duration > DURATION_MAX => {
                return refuse(what, duration, format!("is longer than {}", describe_duration(DURATION_MAX)));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_be_given_in_part() {
        let policy = parse(r#"{"idle_timeout_secs": 10}"#).unwrap();
        assert_eq!((policy.idle_timeout, policy.warning), (Duration::from_secs(10), IdlePolicy::default().warning));
    }

    #[test]
    fn policies_that_make_no_sense_are_refused_with_a_hint() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"idle_timeout_secs": 0}"#,
            r#"{"idle_timeout_secs": 0.5}"#,
            r#"{"idle_timeout_secs": -5}"#,
            r#"{"idle_timeout_secs": "10m"}"#,
            r#"{"idle_timeout_secs": 1e300}"#,
            r#"{"idle_timeout_secs": 31536001}"#,
            r#"{"unknown_limit_secs": 0}"#,
            r#"{"warning_secs": -1}"#,
            r#"{"action": "explode"}"#,
            r#"{"timeout": 10}"#,
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidArgument && error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn a_damaged_file_leaves_the_policy_of_the_launch_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let layout = crate::testing::layout(dir.path());
        let launch = IdlePolicy::default();
        assert_eq!(in_force(&layout, &launch), launch);
        std::fs::write(layout.policy(), r#"{"idle_timeout_secs": 0}"#).unwrap();
        assert_eq!(in_force(&layout, &launch), launch);
        std::fs::write(layout.policy(), r#"{"idle_timeout_secs": 60}"#).unwrap();
        assert_eq!(in_force(&layout, &launch).idle_timeout.as_secs(), 60);
    }
}
