//! `dh doctor`: checks this machine and everything dh keeps on it. It works where nothing else does.

mod machine;
mod orphans;
mod state;

use dh_core::connect::{Config, Paths};
use dh_core::domain::{EnvironmentName, Error};
use dh_core::wire::view::{Body, Check, Verdict};

use crate::connect::{self, Place};
use crate::failure::Failure;
use crate::host::Host;
use crate::render::{Paint, plain, sentence};
use crate::screen::Screen;

fn check(name: &str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check { name: name.to_owned(), verdict, found: found.into(), advice: None }
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    check(name, Verdict::Ok, found)
}

/// Something is missing that dh can do without.
fn absent(name: &str, found: impl Into<String>, advice: &str) -> Check {
    Check { advice: Some(advice.to_owned()), ..check(name, Verdict::Absent, found) }
}

fn failed(name: &str, found: impl Into<String>, advice: &str) -> Check {
    Check { advice: Some(advice.to_owned()), ..check(name, Verdict::Failed, found) }
}

fn broken(name: &str, error: &Error) -> Check {
    Check { advice: error.hint().map(str::to_owned), ..check(name, Verdict::Failed, error.full_message()) }
}

/// Runs all checks and shows them; with `adopt`, makes records first of what no record knows.
pub async fn run(
    screen: &Screen,
    host: &dyn Host,
    asked: Option<&EnvironmentName>,
    adopt: bool,
) -> Result<(), Failure> {
    let mut checks = Vec::new();
    match find_place(asked, &mut checks) {
        Some(place) => {
            checks.extend(machine::checks(&place.paths));
            checks.push(machine::ssh_config(host));
            match connect::open(&place) {
                Ok(control) => {
                    if adopt {
                        checks.extend(orphans::adopt(&*control).await);
                    }
                    checks.extend(state::checks(&*control).await);
                    checks.extend(orphans::checks(&*control).await);
                }
                Err(error) => checks.push(broken("state", &error)),
            }
        }
        None => checks.push(machine::ssh_config(host)),
    }
    show(screen, &checks)
}

fn find_place(asked: Option<&EnvironmentName>, checks: &mut Vec<Check>) -> Option<Place> {
    let place = Paths::from_environment().and_then(|paths| {
        let config = Config::load(&paths)?;
        Place::choose(paths, config, asked)
    });
    match place {
        Ok(place) => {
            let file = place.paths.config_file();
            let found = match file.exists() {
                true => format!("{} is valid", file.display()),
                false => format!("none, so the defaults hold; it would be {}", file.display()),
            };
            checks.push(ok("configuration", found));
            checks.push(ok("environment", format!("{} on the {} backend", place.environment, place.backend)));
            Some(place)
        }
        Err(error) => {
            checks.push(broken("configuration", &error));
            None
        }
    }
}

fn show(screen: &Screen, checks: &[Check]) -> Result<(), Failure> {
    screen.result(&draw(checks, screen.paint()))?;
    screen.document(|| Body::Checks { checks: checks.to_vec() })?;
    match checks.iter().any(|check| check.verdict == Verdict::Failed) {
        true => Err(Failure::Unhealthy),
        false => Ok(()),
    }
}

fn draw(checks: &[Check], paint: Paint) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => paint.green("✓"),
            Verdict::Failed => paint.red("✗"),
            Verdict::Absent => paint.grey("–"),
        };
        lines.push(format!("{mark} {}: {}", sentence(&check.name), plain(&check.found)));
        lines.extend(check.advice.iter().map(|advice| format!("    {}", sentence(&plain(advice)))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_drawn_with_what_to_do() {
        let checks = [
            ok("configuration", "valid"),
            absent("OpenSSH server", "not found", "install openssh-server"),
            failed("disk", "full", "free some space"),
        ];
        insta::assert_snapshot!(draw(&checks, Paint::new(false)), @r"
        ✓ Configuration: valid
        – OpenSSH server: not found
            Install openssh-server
        ✗ Disk: full
            Free some space
        ");
    }
}
