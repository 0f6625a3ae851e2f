//! Mounts and unmounts studios on this engine.
//!
//! Runs as a process of its own, since whatever touches a studio's device may hang for ever and must be killable.
//! Repeating a call that was killed finishes it: what is to be is recorded first, what is there is looked at.

mod decide;
mod device;
mod holders;
mod place;
mod programs;
mod state;
mod studio;

use std::process::Command;
use std::time::Duration;

use clap::Args;
use dh_core::domain::{DeviceName, Error, ErrorKind, Result, SizeGb, StoredError, UserName, VolumeId};
use dh_core::wire::{AgentConfig, MountReply};

use place::Place;
use programs::{Installed, Life};
use studio::Studio;

/// How long one remount may take at boot: replaying a journal takes seconds, a dead disk for ever.
const REMOUNT_DEADLINE: Duration = Duration::from_secs(120);

/// The arguments of `dh-agent mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// The studio's volume.
    #[arg(long, value_name = "ID")]
    pub volume: VolumeId,
    /// The studio's epoch; an older one than the last is refused.
    #[arg(long, value_name = "N")]
    pub epoch: u64,
    /// The studio's owner, after whom the mount point is named.
    #[arg(long, value_name = "NAME")]
    pub user: UserName,
    /// The size that the volume must have.
    #[arg(long, value_name = "N")]
    pub size_gb: SizeGb,
    /// The device name that the volume was attached under.
    #[arg(long, value_name = "/dev/sdX", value_parser = |text: &str| DeviceName::try_from(text.to_owned()))]
    pub device: DeviceName,
}

/// The arguments of `dh-agent unmount`.
#[derive(Debug, Clone, Args)]
pub struct UnmountArgs {
    /// The studio's volume.
    #[arg(long, value_name = "ID")]
    pub volume: VolumeId,
    /// The studio's owner.
    #[arg(long, value_name = "NAME")]
    pub user: UserName,
}

/// Mounts a studio; one that is mounted already is left alone.
pub fn mount(args: &MountArgs) -> Result<MountReply> {
    let place = Place::of(&crate::layout::load_config()?)?;
    Studio::new(&place, &Installed, &args.volume, &args.user).mount(args)
}

/// Unmounts a studio; one that is not mounted is left alone.
pub fn unmount(args: &UnmountArgs) -> Result<MountReply> {
    let place = Place::of(&crate::layout::load_config()?)?;
    Studio::new(&place, &Installed, &args.volume, &args.user).unmount()
}

/// `dh-agent remount`: [`remount_all`], failing when any of them does.
pub fn remount() -> Result<()> {
    remount_all(&crate::layout::load_config()?).into_iter().next().map_or(Ok(()), Err)
}

/// Mounts all studios that were mounted when the engine was last stopped. Logs each that fails and returns the errors.
///
/// Each is mounted by a child process with a deadline, all at the same time, so that a dead disk holds up nothing else.
/// Blocks: call it where that is allowed. The children find the configuration where this process did.
pub fn remount_all(config: &AgentConfig) -> Vec<Error> {
    let records = Place::of(config).and_then(|place| state::load(&place)).map(|state| state.mounts);
    let failed: Vec<Error> = match records {
        Ok(records) => std::thread::scope(|scope| {
            let children: Vec<_> = records
                .iter()
                .map(|(volume, record)| {
                    scope.spawn(move || {
                        remount_one(volume, record)
                            .map_err(|error| error.with_context("volume", volume).with_context("user", &record.user))
                    })
                })
                .collect();
            children.into_iter().filter_map(|child| child.join().ok().and_then(Result::err)).collect()
        }),
        Err(error) => vec![error],
    };
    for error in &failed {
        tracing::error!(error = %error.full_message(), hint = error.hint(), "a studio was not mounted again");
    }
    failed
}

/// Says for people what was not mounted again, why, and what to do.
pub fn problem(error: &Error) -> String {
    let context = error.context();
    let find = |wanted| context.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.as_str());
    let mut text = match (find("user"), find("volume")) {
        (Some(user), Some(volume)) => {
            format!("the studio of {user} ({volume}) is not mounted: {}", error.full_message())
        }
        _ => format!("the studios are not mounted: {}", error.full_message()),
    };
    if let Some(hint) = error.hint() {
        text = format!("{text}; {hint}");
    }
    text
}

fn remount_one(volume: &VolumeId, record: &state::Mounted) -> Result<()> {
    // This very program, also when its file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("mount")
        .args(["--volume", volume.as_str(), "--user", record.user.as_str()])
        .args(["--epoch", &record.epoch.to_string(), "--size-gb", &record.size_gb.get().to_string()])
        .args(["--device", &record.device.to_string()]);
    let output = programs::run_child(&mut command, REMOUNT_DEADLINE, Life::WithParent)
        .map_err(|source| Error::new(ErrorKind::Failed, "cannot run dh-agent mount").with_source(source))?
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Timeout,
                format!("mounting {volume} took longer than {} seconds", REMOUNT_DEADLINE.as_secs()),
            )
        })?;
    if output.success() {
        return Ok(());
    }
    let last = output.stderr.lines().last().unwrap_or_default();
    let error = match serde_json::from_str::<StoredError>(last) {
        Ok(stored) => Error::from(stored),
        Err(_) => Error::new(ErrorKind::Failed, format!("dh-agent mount ended with {}: {last}", output.status)),
    };
    Err(error)
}

#[cfg(test)]
mod tests;
