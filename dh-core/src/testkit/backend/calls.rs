//! The calls of the fake, how long they take, and what is remembered of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::StageName;

/// A call of the fake backend. Commands of the agent count as calls of their own, not as `RunCommand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// `launch_machine`
    LaunchMachine,
    /// `describe_machine`
    DescribeMachine,
    /// `list_machines`
    ListMachines,
    /// `start_machine`
    StartMachine,
    /// `stop_machine`
    StopMachine,
    /// `terminate_machine`
    TerminateMachine,
    /// `resize_boot_disk`
    ResizeBootDisk,
    /// `tag_machine`
    TagMachine,
    /// `create_volume`
    CreateVolume,
    /// `describe_volume`
    DescribeVolume,
    /// `list_volumes`
    ListVolumes,
    /// `attach_volume`
    AttachVolume,
    /// `detach_volume`
    DetachVolume,
    /// `grow_volume`
    GrowVolume,
    /// `delete_volume`
    DeleteVolume,
    /// `run_command` with anything but the agent
    RunCommand,
    /// `dh-agent mount`
    AgentMount,
    /// `dh-agent unmount`
    AgentUnmount,
    /// `dh-agent coffee`
    AgentCoffee,
    /// `dh-agent policy`
    AgentPolicy,
    /// `dh-agent status`
    AgentStatus,
    /// `read_log`
    ReadLog,
}

impl Call {
    /// The calls that change something.
    pub const EFFECTS: &[Self] = &[
        Self::LaunchMachine,
        Self::StartMachine,
        Self::StopMachine,
        Self::TerminateMachine,
        Self::ResizeBootDisk,
        Self::TagMachine,
        Self::CreateVolume,
        Self::AttachVolume,
        Self::DetachVolume,
        Self::GrowVolume,
        Self::DeleteVolume,
        Self::RunCommand,
        Self::AgentMount,
        Self::AgentUnmount,
        Self::AgentCoffee,
        Self::AgentPolicy,
    ];

    /// The calls that only look.
    pub const LOOKS: &[Self] = &[
        Self::DescribeMachine,
        Self::ListMachines,
        Self::DescribeVolume,
        Self::ListVolumes,
        Self::AgentStatus,
        Self::ReadLog,
    ];

    pub(super) fn of_command(argv: &[String]) -> Self {
        match (argv.first().map(String::as_str), argv.get(1).map(String::as_str)) {
            (Some("dh-agent"), Some("mount")) => Self::AgentMount,
            (Some("dh-agent"), Some("unmount")) => Self::AgentUnmount,
            (Some("dh-agent"), Some("coffee")) => Self::AgentCoffee,
            (Some("dh-agent"), Some("policy")) => Self::AgentPolicy,
            (Some("dh-agent"), Some("status")) => Self::AgentStatus,
            _ => Self::RunCommand,
        }
    }
}

/// One call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Which.
    pub call: Call,
    /// What it was about: a machine's or volume's id, an engine's, user's or environment's name.
    pub target: String,
    /// When it was made, on the boot clock.
    pub at: Duration,
}

/// How long calls take to answer, and things to happen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Latencies {
    /// A call that is not in `calls`: half of it goes by before the effect, half after.
    pub call: Duration,
    /// Calls of their own speed.
    pub calls: BTreeMap<Call, Duration>,
    /// From launch or start to running.
    pub pending: Duration,
    /// From stop to stopped.
    pub stopping: Duration,
    /// From hibernate to hibernated.
    pub hibernating: Duration,
    /// From terminate to gone.
    pub terminating: Duration,
    /// From attach to attached.
    pub attaching: Duration,
    /// From detach to detached.
    pub detaching: Duration,
    /// A bootstrap stage that is not in `stages`.
    pub stage: Duration,
    /// Stages of their own speed.
    pub stages: BTreeMap<StageName, Duration>,
}

impl Latencies {
    /// Everything happens at once.
    pub fn none() -> Self {
        Self {
            call: Duration::ZERO,
            calls: BTreeMap::new(),
            pending: Duration::ZERO,
            stopping: Duration::ZERO,
            hibernating: Duration::ZERO,
            terminating: Duration::ZERO,
            attaching: Duration::ZERO,
            detaching: Duration::ZERO,
            stage: Duration::ZERO,
            stages: BTreeMap::new(),
        }
    }

    pub(super) fn of(&self, call: Call) -> Duration {
        self.calls.get(&call).copied().unwrap_or(self.call)
    }

    pub(super) fn of_stage(&self, stage: StageName) -> Duration {
        self.stages.get(&stage).copied().unwrap_or(self.stage)
    }
}

impl Default for Latencies {
    /// A cloud's: a launch takes two minutes. For a virtual clock.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            call: Duration::from_millis(200),
            calls: BTreeMap::from([
                (Call::LaunchMachine, secs(2)),
                (Call::AgentMount, secs(4)),
                (Call::AgentUnmount, secs(2)),
                (Call::RunCommand, secs(1)),
            ]),
            pending: secs(20),
            stopping: secs(30),
            hibernating: secs(45),
            terminating: secs(25),
            attaching: secs(8),
            detaching: secs(5),
            stage: secs(6),
            stages: BTreeMap::from([
                (StageName::InstanceRunning, secs(1)),
                (StageName::InstallingPackages, secs(60)),
                (StageName::Ready, Duration::ZERO),
            ]),
        }
    }
}
