//! The cases that every [`EngineBackend`] must pass.
//!
//! [`CASES`] owns them all. What a backend says it can do selects them, nothing else; what is left out is reported.
//! Every case gets a setting of its own from the [`BackendHarness`], and its machines and volumes are removed at its end:
//! a case that leaves something behind fails.

mod bench;
mod commands;
mod machines;
mod power;
mod studios;
mod volumes;

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use self::bench::Bench;
use crate::domain::{EnvironmentName, Error};
use crate::ports::{Capabilities, Clock, EngineBackend};

/// What a case runs in.
pub struct Setting {
    /// The backend, without any machine or volume in `environment`.
    pub backend: Arc<dyn EngineBackend>,
    /// The environment to use; another one is made from its name where two are needed.
    pub environment: EnvironmentName,
    /// The backend's time.
    pub clock: Arc<dyn Clock>,
    /// Kept until the case is over: a temporary directory, a server.
    pub guard: Box<dyn Any + Send>,
}

/// Makes a backend testable.
#[async_trait]
pub trait BackendHarness: Send + Sync {
    /// Makes the setting of one case.
    async fn set_up(&self) -> Setting;

    /// Returns whether machines really run commands.
    fn runs_commands(&self) -> bool;

    /// Returns whether machines have an agent that answers.
    fn has_agent(&self) -> bool;

    /// Returns how long a machine may take to come to any state before a case fails.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Returns how often a case looks whether something has happened.
    fn look_every(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// Returns how many machines race for one volume. Fewer where every machine is a burden.
    fn racers(&self) -> usize {
        50
    }
}

/// What a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// Machines stop and start.
    Stop,
    /// They cannot.
    NoStop,
    /// Machines hibernate.
    Hibernate,
    /// They cannot.
    NoHibernate,
    /// Boot disks grow.
    Resize,
    /// They cannot.
    NoResize,
    /// Boot disks grow while the machine runs.
    OnlineResize,
    /// They grow, but not while the machine runs.
    OfflineResizeOnly,
    /// There are volumes.
    Volumes,
    /// There are none.
    NoVolumes,
    /// Commands really run.
    Commands,
    /// The agent answers.
    Agent,
}

impl Need {
    fn met(self, can: &Capabilities, harness: &dyn BackendHarness) -> bool {
        match self {
            Self::Stop => can.stop,
            Self::NoStop => !can.stop,
            Self::Hibernate => can.hibernate,
            Self::NoHibernate => !can.hibernate,
            Self::Resize => can.resize_boot_disk,
            Self::NoResize => !can.resize_boot_disk,
            Self::OnlineResize => can.resize_boot_disk && can.resize_boot_disk_online,
            Self::OfflineResizeOnly => can.resize_boot_disk && !can.resize_boot_disk_online && can.stop,
            Self::Volumes => can.volumes,
            Self::NoVolumes => !can.volumes,
            Self::Commands => harness.runs_commands(),
            Self::Agent => harness.has_agent(),
        }
    }
}

/// Why a case failed.
#[derive(Debug)]
pub(super) struct Failure(String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let context: String = error.context().iter().map(|(key, value)| format!(" {key}={value}")).collect();
        Self(format!("{} ({}{context})", error.full_message(), error.kind()))
    }
}

pub(super) type Outcome = Result<(), Failure>;

/// One case.
pub struct Case {
    /// The behaviour it checks.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    run: for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, Outcome>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

macro_rules! cases {
    ($($module:ident: $([$($need:ident),*] $name:ident,)*)*) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[$($(Case {
            name: stringify!($name),
            needs: &[$(Need::$need),*],
            run: |bench| Box::pin($module::$name(bench)),
        },)*)*];
    };
}

cases! {
    machines:
    [] a_launched_machine_comes_to_run_as_it_was_asked_for,
    [] the_same_key_launches_one_machine,
    [] concurrent_launches_with_one_key_make_one_machine,
    [] another_key_launches_another_machine,
    [] an_unknown_engine_type_is_refused,
    [] a_missing_machine_is_described_as_none,
    [] a_list_has_the_machines_of_its_environment_alone,
    [] a_terminated_machine_is_gone,
    [] terminating_a_missing_machine_succeeds,
    [] terminating_twice_succeeds,
    [] tags_can_be_set_again_and_again,
    [] a_log_has_no_more_lines_than_asked_for,
    [] a_session_carries_the_command_unchanged,
    [] an_ssh_target_fits_into_a_host_entry,

    power:
    [Stop] a_stopped_machine_starts_again_with_its_boot_disk,
    [Stop] stopping_a_stopped_machine_changes_nothing,
    [Stop] starting_a_running_machine_changes_nothing,
    [Stop] stopping_a_missing_machine_is_not_found,
    [Stop] starting_a_missing_machine_is_not_found,
    [Stop] a_stopped_machine_can_be_terminated,
    [Stop] a_stopped_machine_runs_no_command,
    [NoStop] a_stop_that_cannot_be_done_is_refused,
    [Hibernate] a_hibernated_machine_starts_again,
    [NoHibernate] hibernation_that_cannot_be_done_is_refused,
    [OnlineResize] a_boot_disk_grows_while_the_machine_runs,
    [Resize] a_boot_disk_never_shrinks,
    [OfflineResizeOnly] a_boot_disk_grows_only_while_the_machine_is_stopped,
    [NoResize] a_resize_that_cannot_be_done_is_refused,

    volumes:
    [Volumes] a_created_volume_is_as_it_was_asked_for,
    [Volumes] the_same_key_creates_one_volume,
    [Volumes] concurrent_creations_with_one_key_make_one_volume,
    [Volumes] a_missing_volume_is_described_as_none,
    [Volumes] a_list_has_the_volumes_of_its_environment_alone,
    [Volumes] an_attached_volume_shows_on_both_sides,
    [Volumes] attaching_again_at_the_same_place_changes_nothing,
    [Volumes] a_volume_attached_elsewhere_is_in_use,
    [Volumes] a_volume_has_one_device_name_at_a_time,
    [Volumes] a_device_name_takes_one_volume,
    [Volumes] an_older_epoch_is_refused_while_attached,
    [Volumes] an_older_epoch_is_refused_after_the_detach,
    [Volumes] attaching_a_missing_volume_is_not_found,
    [Volumes] attaching_to_a_missing_machine_is_not_found,
    [Volumes] of_many_machines_that_race_for_a_volume_one_wins,
    [Volumes] a_detached_volume_is_free,
    [Volumes] detaching_what_is_not_attached_succeeds,
    [Volumes] detaching_from_another_machine_changes_nothing,
    [Volumes] a_volume_grows,
    [Volumes] a_volume_never_shrinks,
    [Volumes] an_attached_volume_is_not_deleted,
    [Volumes] deleting_a_missing_volume_succeeds,
    [Volumes] a_volume_outlives_its_machine,
    [Volumes, Stop] a_volume_stays_attached_over_a_stop,
    [NoVolumes] volumes_that_cannot_be_are_refused,

    commands:
    [Commands] a_command_ends_with_its_own_exit_code,
    [Commands] output_and_errors_are_kept_apart,
    [Commands] a_command_reads_what_it_is_given,
    [Commands] arguments_arrive_unchanged,
    [Commands] a_command_ended_by_a_signal_says_which,
    [Commands] a_command_that_takes_too_long_is_killed,
    [Commands] a_program_that_is_not_there_fails_and_is_no_error_of_the_call,
    [Commands, Stop] the_boot_disk_keeps_its_files_over_a_stop,
    [Commands, Hibernate] a_process_lives_through_hibernation,

    studios:
    [Agent] the_agent_takes_and_cancels_coffee,
    [Agent] the_agent_takes_a_policy,
    [Agent, Volumes] a_blank_volume_is_formatted_once,
    [Agent, Volumes] a_volume_that_is_not_attached_is_not_mounted,
    [Agent, Volumes] a_mount_under_an_older_epoch_is_refused,
    [Agent, Volumes] unmounting_what_is_not_mounted_succeeds,
    [Agent, Volumes] a_grown_volume_grows_its_filesystem_at_the_next_mount,
    [Agent, Volumes, Commands] files_follow_the_volume_to_another_machine,
    [Agent, Volumes, Commands] a_studio_with_open_files_is_not_unmounted,
    [Agent, Volumes, Commands, Stop] a_mounted_studio_is_there_again_after_a_stop,
}

/// What became of the cases.
#[derive(Debug, Default)]
pub struct Report {
    /// The backend's name.
    pub backend: String,
    /// Those that passed.
    pub passed: Vec<&'static str>,
    /// Those left out, and what they would have needed.
    pub skipped: Vec<(&'static str, Vec<Need>)>,
    /// Those that failed, and why.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Prints the report.
    ///
    /// # Panics
    /// When a case failed, or none passed.
    pub fn assert_passed(&self) {
        println!("{self}");
        assert!(self.failed.is_empty() && !self.passed.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} passed, {} skipped, {} failed",
            self.backend,
            self.passed.len(),
            self.skipped.len(),
            self.failed.len()
        )?;
        for (name, needs) in &self.skipped {
            write!(f, "\n  skipped {name}: needs {needs:?}")?;
        }
        for (name, why) in &self.failed {
            write!(f, "\n  FAILED {name}: {why}")?;
        }
        Ok(())
    }
}

/// Runs every case that the backend's capabilities select.
pub async fn run(harness: &dyn BackendHarness) -> Report {
    run_matching(harness, "").await
}

/// Runs those cases whose name has `part` in it.
pub async fn run_matching(harness: &dyn BackendHarness, part: &str) -> Report {
    let mut report = Report::default();
    for case in CASES.iter().filter(|case| case.name.contains(part)) {
        let setting = harness.set_up().await;
        report.backend = setting.backend.to_string();
        let can = setting.backend.capabilities();
        let missing: Vec<Need> = case.needs.iter().copied().filter(|need| !need.met(can, harness)).collect();
        if !missing.is_empty() {
            report.skipped.push((case.name, missing));
            continue;
        }
        let bench = Bench::new(setting, harness);
        let outcome = AssertUnwindSafe((case.run)(&bench)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure("it panicked; see above".into())));
        // The setting is left as it was found whatever came out.
        let cleaned = bench.clean_up().await;
        match outcome.and(cleaned) {
            Ok(()) => report.passed.push(case.name),
            Err(Failure(why)) => report.failed.push((case.name, why)),
        }
    }
    report
}
