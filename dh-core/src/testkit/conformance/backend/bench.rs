//! What the cases have in common.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{BackendHarness, Failure, Outcome, Setting};
use crate::domain::{
    AttachmentState, DeviceName, EngineName, EnvironmentName, Error, ErrorKind, IdempotencyKey, IdlePolicy, Machine,
    MachineId, MachineState, OperationId, Result, SizeGb, StoredError, UserName, Volume, VolumeId,
};
use crate::ports::{AttachVolume, CommandOutput, CreateVolume, EngineBackend, LaunchMachine, RunCommand};
use crate::testkit::until;

/// A backend on which one case runs, and what the case made there.
pub(super) struct Bench {
    setting: Setting,
    patience: Duration,
    look_every: Duration,
    pub(super) racers: usize,
    made: AtomicU64,
    machines: Mutex<BTreeSet<MachineId>>,
    volumes: Mutex<BTreeSet<VolumeId>>,
}

macro_rules! check {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::testkit::conformance::backend::Failure(format!($($what)+)));
        }
    };
}
pub(super) use check;

impl Bench {
    pub(super) fn new(setting: Setting, harness: &dyn BackendHarness) -> Self {
        Self {
            setting,
            patience: harness.patience(),
            look_every: harness.look_every(),
            racers: harness.racers(),
            made: AtomicU64::new(0),
            machines: Mutex::default(),
            volumes: Mutex::default(),
        }
    }

    pub(super) fn backend(&self) -> &dyn EngineBackend {
        &*self.setting.backend
    }

    pub(super) fn shared_backend(&self) -> Arc<dyn EngineBackend> {
        self.setting.backend.clone()
    }

    pub(super) fn environment(&self) -> &EnvironmentName {
        &self.setting.environment
    }

    pub(super) fn other_environment(&self) -> Result<EnvironmentName> {
        EnvironmentName::new(format!("{}-2", self.setting.environment))
    }

    pub(super) fn user(&self) -> UserName {
        UserName::new("alice").expect("it is a user name")
    }

    /// Returns the smallest engine type.
    pub(super) fn engine_type(&self) -> String {
        let types = &self.backend().capabilities().engine_types;
        let smallest = types.iter().min_by_key(|(_, engine_type)| (engine_type.gpus, engine_type.vcpus));
        smallest.expect("a backend has engine types").0.clone()
    }

    fn key(&self, step: &str) -> Result<IdempotencyKey> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let environment: String =
            self.environment().as_str().chars().filter(char::is_ascii_alphanumeric).take(24).collect();
        Ok(IdempotencyKey::for_step(&OperationId::new(format!("{environment}-{number}"))?, step))
    }

    /// Makes a request for another machine.
    pub(super) fn machine_request(&self) -> Result<LaunchMachine> {
        let key = self.key("launch")?;
        let number = self.made.load(Ordering::Relaxed);
        Ok(LaunchMachine {
            key,
            engine: EngineName::new(format!("engine-{number}"))?,
            environment: self.environment().clone(),
            user: self.user(),
            engine_type: self.engine_type(),
            boot_disk_gb: self.backend().capabilities().default_boot_disk_gb,
            policy: IdlePolicy::default(),
        })
    }

    /// Makes a request for another volume.
    pub(super) fn volume_request(&self) -> Result<CreateVolume> {
        Ok(CreateVolume {
            key: self.key("volume")?,
            user: self.user(),
            environment: self.environment().clone(),
            size_gb: SizeGb::new(1)?,
        })
    }

    /// Remembers a machine for the cleaning up.
    pub(super) fn track_machine(&self, id: &MachineId) {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    /// Remembers a volume for the cleaning up.
    pub(super) fn track_volume(&self, id: &VolumeId) {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    /// Launches a machine as requested and does not wait.
    pub(super) async fn launch_as(&self, request: LaunchMachine) -> Result<Machine> {
        let machine = self.backend().launch_machine(request).await?;
        self.track_machine(&machine.id);
        Ok(machine)
    }

    /// Launches a machine and waits until it runs.
    pub(super) async fn running_machine(&self) -> Result<Machine> {
        let machine = self.launch_as(self.machine_request()?).await?;
        self.until_state(&machine.id, MachineState::Running).await
    }

    /// Creates a volume.
    pub(super) async fn volume(&self) -> Result<Volume> {
        let volume = self.backend().create_volume(self.volume_request()?).await?;
        self.track_volume(&volume.id);
        Ok(volume)
    }

    /// Looks until there is something to see.
    pub(super) async fn until<T>(
        &self,
        what: impl Into<String>,
        look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        until(&*self.setting.clock, self.patience, self.look_every, &what.into(), look).await
    }

    pub(super) async fn until_state(&self, id: &MachineId, state: MachineState) -> Result<Machine> {
        let seen = self.until(format!("machine {id} is {state:?}"), async || {
            let machine = self.describe(id).await?;
            Ok((machine.state == state).then_some(machine))
        });
        seen.await
    }

    pub(super) async fn describe(&self, id: &MachineId) -> Result<Machine> {
        self.backend().describe_machine(id).await?.ok_or_else(|| gone(id.as_str()))
    }

    pub(super) async fn describe_volume(&self, id: &VolumeId) -> Result<Volume> {
        self.backend().describe_volume(id).await?.ok_or_else(|| gone(id.as_str()))
    }

    /// Asks for an attachment and does not wait.
    pub(super) async fn ask_attach(
        &self,
        volume: &VolumeId,
        machine: &MachineId,
        device: DeviceName,
        epoch: u64,
    ) -> Result<()> {
        let request = AttachVolume { volume: volume.clone(), machine: machine.clone(), device, epoch };
        self.backend().attach_volume(request).await
    }

    /// Attaches and waits until it is.
    pub(super) async fn attach(
        &self,
        volume: &VolumeId,
        machine: &MachineId,
        device: DeviceName,
        epoch: u64,
    ) -> Result<()> {
        self.ask_attach(volume, machine, device, epoch).await?;
        let attached = self.until(format!("volume {volume} is attached to {machine}"), async || {
            let attachment = self.describe_volume(volume).await?.attachment;
            Ok(attachment.filter(|it| it.machine == *machine && it.state == AttachmentState::Attached))
        });
        attached.await.map(|_| ())
    }

    /// Detaches and waits until it is.
    pub(super) async fn detach(&self, volume: &VolumeId, machine: &MachineId) -> Result<()> {
        self.backend().detach_volume(volume, machine).await?;
        let detached = self.until(format!("volume {volume} is detached"), async || {
            Ok(self.describe_volume(volume).await?.attachment.is_none().then_some(()))
        });
        detached.await
    }

    /// Runs a command with plenty of time.
    pub(super) async fn command(&self, machine: &MachineId, argv: &[&str], stdin: &[u8]) -> Result<CommandOutput> {
        self.backend()
            .run_command(RunCommand {
                machine: machine.clone(),
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                stdin: stdin.to_vec(),
                timeout: self.patience,
            })
            .await
    }

    /// Runs a script of the shell.
    pub(super) async fn shell(&self, machine: &MachineId, script: &str) -> Result<CommandOutput> {
        self.command(machine, &["sh", "-c", script], b"").await
    }

    /// Asks the agent of a machine that runs, and expects it to do it.
    pub(super) async fn agent<T: DeserializeOwned>(
        &self,
        machine: &MachineId,
        words: &[&str],
        stdin: &[u8],
    ) -> Result<T, Failure> {
        let output = self.agent_output(machine, words, stdin).await?;
        check!(output.exit_code == 0, "dh-agent {words:?} ended with {}: {}", output.exit_code, output.stderr);
        serde_json::from_str(output.stdout.trim())
            .map_err(|error| Failure(format!("dh-agent {words:?} printed {:?}: {error}", output.stdout)))
    }

    /// Expects the agent to refuse, in the form in which agents fail.
    pub(super) async fn agent_refuses(&self, machine: &MachineId, words: &[&str], kind: ErrorKind) -> Outcome {
        let output = self.agent_output(machine, words, b"").await?;
        let last = output.stderr.lines().last().unwrap_or_default();
        let Ok(error) = serde_json::from_str::<StoredError>(last) else {
            return Err(Failure(format!(
                "dh-agent {words:?} ended with {} and no error as last line, but {last:?}",
                output.exit_code
            )));
        };
        check!(error.kind == kind, "dh-agent {words:?} refused with {} ({}), not {kind}", error.kind, error.message);
        check!(
            output.exit_code == i32::from(kind.exit_code()),
            "dh-agent {words:?} ended with {}, which is not {kind}'s",
            output.exit_code
        );
        Ok(())
    }

    async fn agent_output(&self, machine: &MachineId, words: &[&str], stdin: &[u8]) -> Result<CommandOutput> {
        let argv: Vec<&str> = std::iter::once("dh-agent").chain(words.iter().copied()).collect();
        self.command(machine, &argv, stdin).await
    }

    /// Removes what the case made and looks that nothing is left.
    pub(super) async fn clean_up(&self) -> Outcome {
        let machines = std::mem::take(&mut *self.machines.lock().unwrap_or_else(PoisonError::into_inner));
        let volumes = std::mem::take(&mut *self.volumes.lock().unwrap_or_else(PoisonError::into_inner));
        for id in &machines {
            self.backend().terminate_machine(id).await?;
        }
        for id in &machines {
            let gone = self.until(format!("machine {id} is gone"), async || {
                Ok(self.backend().describe_machine(id).await?.is_none().then_some(()))
            });
            gone.await?;
        }
        for id in &volumes {
            let free = self.until(format!("volume {id} is free after its machine's end"), async || {
                let volume = self.backend().describe_volume(id).await?;
                Ok(volume.is_none_or(|volume| volume.attachment.is_none()).then_some(()))
            });
            free.await?;
            self.backend().delete_volume(id).await?;
        }
        for environment in [self.environment().clone(), self.other_environment()?] {
            let left = self.backend().list_machines(&environment).await?;
            check!(left.is_empty(), "machines are left behind: {left:?}");
            if self.backend().capabilities().volumes {
                let left = self.backend().list_volumes(&environment).await?;
                check!(left.is_empty(), "volumes are left behind: {left:?}");
            }
        }
        Ok(())
    }
}

fn gone(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{id} is not there, although it was made"))
}

/// Returns the device names, in order.
pub(super) fn device(index: usize) -> DeviceName {
    DeviceName::all().nth(index).expect("there are eleven device names")
}

/// Expects a refusal of a kind.
pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind) -> Result<Error, Failure> {
    match outcome {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(Failure(format!("{kind} was expected, but it was {error:?}"))),
        Ok(value) => Err(Failure(format!("{kind} was expected, but it succeeded with {value:?}"))),
    }
}

/// Expects a conflict for a reason.
pub(super) fn conflict<T: std::fmt::Debug>(outcome: Result<T>, reason: &str) -> Outcome {
    let error = refused(outcome, ErrorKind::Conflict)?;
    let said = error.context().iter().find(|(key, _)| *key == "reason").map(|(_, value)| value.as_str());
    check!(said == Some(reason), "the reason should be {reason}, but it is {said:?}: {error}");
    Ok(())
}

/// An id that was never given out.
pub(super) fn no_machine() -> MachineId {
    MachineId::new("i-00000000000000bad").expect("it has the form of an id")
}

/// An id that was never given out.
pub(super) fn no_volume() -> VolumeId {
    VolumeId::new("vol-00000000000000bad").expect("it has the form of an id")
}
