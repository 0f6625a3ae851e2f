//! What the agent does when the core asks it through `run_command`: mounts, coffee, the idle policy.

use std::time::Duration;

use super::Outcome;
use super::bench::{Bench, check, device};
use crate::domain::{ErrorKind, IdlePolicy, MachineId, MachineState, Result, SizeGb, StopMode, VolumeId};
use crate::wire::{CoffeeReply, MountReply};

/// One studio and how it is mounted.
struct Studio<'a> {
    bench: &'a Bench,
    volume: VolumeId,
    user: String,
}

impl<'a> Studio<'a> {
    async fn new(bench: &'a Bench) -> Result<Self> {
        let volume = bench.volume().await?;
        Ok(Self { bench, volume: volume.id, user: volume.user.to_string() })
    }

    fn words<'w>(&'w self, epoch: &'w str, size_gb: &'w str, device: &'w str) -> Vec<&'w str> {
        let volume = self.volume.as_str();
        vec![
            "mount",
            "--volume",
            volume,
            "--epoch",
            epoch,
            "--user",
            &self.user,
            "--size-gb",
            size_gb,
            "--device",
            device,
        ]
    }

    async fn mount(&self, machine: &MachineId, epoch: u64, size_gb: u32) -> Result<MountReply, super::Failure> {
        let (epoch, size_gb, device) = (epoch.to_string(), size_gb.to_string(), device(0).to_string());
        self.bench.agent(machine, &self.words(&epoch, &size_gb, &device), b"").await
    }

    async fn mount_refused(&self, machine: &MachineId, epoch: u64) -> Outcome {
        let (epoch, device) = (epoch.to_string(), device(0).to_string());
        self.bench.agent_refuses(machine, &self.words(&epoch, "1", &device), ErrorKind::Conflict).await
    }

    fn unmount_words(&self) -> Vec<&str> {
        vec!["unmount", "--volume", self.volume.as_str(), "--user", &self.user]
    }

    async fn unmount(&self, machine: &MachineId) -> Result<MountReply, super::Failure> {
        self.bench.agent(machine, &self.unmount_words(), b"").await
    }

    /// Attaches and mounts at another machine.
    async fn join(&self, machine: &MachineId, epoch: u64) -> Result<MountReply, super::Failure> {
        self.bench.attach(&self.volume, machine, device(0), epoch).await?;
        self.mount(machine, epoch, 1).await
    }

    /// Unmounts and detaches.
    async fn part(&self, machine: &MachineId) -> Outcome {
        self.unmount(machine).await?;
        Ok(self.bench.detach(&self.volume, machine).await?)
    }
}

pub(super) async fn the_agent_takes_and_cancels_coffee(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let short: CoffeeReply = bench.agent(&machine, &["coffee", "--for", "60"], b"").await?;
    let long: CoffeeReply = bench.agent(&machine, &["coffee", "--for", "3600"], b"").await?;
    check!(short.until.is_some() && long.until > short.until, "{:?} and then {:?}", short.until, long.until);
    let cancelled: CoffeeReply = bench.agent(&machine, &["coffee", "--cancel"], b"").await?;
    check!(cancelled.until.is_none(), "cancelled, and yet until {:?}", cancelled.until);
    let again: CoffeeReply = bench.agent(&machine, &["coffee", "--cancel"], b"").await?;
    check!(again.until.is_none(), "cancelled twice, and yet until {:?}", again.until);
    Ok(())
}

pub(super) async fn the_agent_takes_a_policy(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let policy = IdlePolicy {
        idle_timeout: Duration::from_secs(4_711),
        warning: Duration::from_secs(42),
        ..IdlePolicy::default()
    };
    let json = serde_json::to_vec(&policy).expect("a policy is JSON");
    let in_force: IdlePolicy = bench.agent(&machine, &["policy", "--set", "-"], &json).await?;
    check!(in_force == policy, "{policy:?} became {in_force:?}");
    Ok(())
}

pub(super) async fn a_blank_volume_is_formatted_once(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    let first = studio.join(&machine, 1).await?;
    check!(first.formatted, "a blank volume was mounted without a filesystem");
    check!(first.mount_point.starts_with('/'), "mounted at {:?}", first.mount_point);
    let again = studio.mount(&machine, 1, 1).await?;
    check!(!again.formatted && again.mount_point == first.mount_point, "mounted again, it is {again:?}");
    studio.part(&machine).await?;
    let later = studio.join(&machine, 2).await?;
    check!(!later.formatted, "the second mount formatted it again");
    studio.part(&machine).await
}

pub(super) async fn a_volume_that_is_not_attached_is_not_mounted(bench: &Bench) -> Outcome {
    let (here, there) = (bench.running_machine().await?.id, bench.running_machine().await?.id);
    let studio = Studio::new(bench).await?;
    studio.mount_refused(&here, 1).await?;
    bench.attach(&studio.volume, &there, device(0), 1).await?;
    studio.mount_refused(&here, 1).await
}

pub(super) async fn a_mount_under_an_older_epoch_is_refused(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    bench.attach(&studio.volume, &machine, device(0), 5).await?;
    studio.mount_refused(&machine, 4).await?;
    studio.mount(&machine, 5, 1).await?;
    studio.part(&machine).await
}

pub(super) async fn unmounting_what_is_not_mounted_succeeds(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    studio.unmount(&machine).await?;
    studio.join(&machine, 1).await?;
    studio.unmount(&machine).await?;
    studio.unmount(&machine).await?;
    Ok(())
}

pub(super) async fn a_grown_volume_grows_its_filesystem_at_the_next_mount(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    studio.join(&machine, 1).await?;
    studio.part(&machine).await?;
    bench.backend().grow_volume(&studio.volume, SizeGb::new(2)?).await?;
    bench.attach(&studio.volume, &machine, device(0), 2).await?;
    let reply = studio.mount(&machine, 2, 2).await?;
    check!(!reply.formatted, "growing lost what was on it");
    if bench.describe_volume(&studio.volume).await?.caveat.is_none() {
        check!(reply.grown, "the filesystem did not grow");
    }
    studio.part(&machine).await
}

pub(super) async fn files_follow_the_volume_to_another_machine(bench: &Bench) -> Outcome {
    let (here, there) = (bench.running_machine().await?.id, bench.running_machine().await?.id);
    let studio = Studio::new(bench).await?;
    let at = studio.join(&here, 1).await?.mount_point;
    let output = bench.shell(&here, &format!("echo precious >'{at}/thesis'")).await?;
    check!(output.exit_code == 0, "nothing can be written into the studio: {}", output.stderr);
    studio.part(&here).await?;
    let output = bench.shell(&here, &format!("cat '{at}/thesis'")).await?;
    check!(output.exit_code != 0, "the first machine still has the files");
    let at = studio.join(&there, 2).await?.mount_point;
    let output = bench.shell(&there, &format!("cat '{at}/thesis'")).await?;
    check!(output.stdout == "precious\n", "the file holds {:?} now: {}", output.stdout, output.stderr);
    studio.part(&there).await
}

pub(super) async fn a_studio_with_open_files_is_not_unmounted(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    let at = studio.join(&machine, 1).await?.mount_point;
    let hold = format!("sleep 3600 </dev/null >'{at}/log' 2>&1 & echo $! >\"$HOME/holder\"");
    check!(bench.shell(&machine, &hold).await?.exit_code == 0, "no process can be left in the background");
    bench.agent_refuses(&machine, &studio.unmount_words(), ErrorKind::Conflict).await?;
    let output = bench.shell(&machine, &format!("test -e '{at}/log'")).await?;
    check!(output.exit_code == 0, "refused, and yet the files are gone");
    bench.shell(&machine, "kill -KILL \"$(cat \"$HOME/holder\")\"").await?;
    let words = studio.unmount_words();
    let unmounted = bench.until("nobody holds the studio any more", async || {
        let argv: Vec<&str> = std::iter::once("dh-agent").chain(words.iter().copied()).collect();
        Ok((bench.command(&machine, &argv, b"").await?.exit_code == 0).then_some(()))
    });
    unmounted.await?;
    Ok(bench.detach(&studio.volume, &machine).await?)
}

pub(super) async fn a_mounted_studio_is_there_again_after_a_stop(bench: &Bench) -> Outcome {
    let (machine, studio) = (bench.running_machine().await?.id, Studio::new(bench).await?);
    let at = studio.join(&machine, 1).await?.mount_point;
    check!(bench.shell(&machine, &format!("echo precious >'{at}/thesis'")).await?.exit_code == 0, "no writing there");
    bench.backend().stop_machine(&machine, StopMode::Stop).await?;
    bench.until_state(&machine, MachineState::Stopped).await?;
    bench.backend().start_machine(&machine).await?;
    bench.until_state(&machine, MachineState::Running).await?;
    let seen = bench.until("the studio's file is there again", async || {
        let output = bench.shell(&machine, &format!("cat '{at}/thesis'")).await?;
        Ok((output.stdout == "precious\n").then_some(()))
    });
    seen.await?;
    studio.part(&machine).await
}
