//! [`EngineBackend`] over directories, locks and supervisors.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::config::LocalConfig;
use super::control::{Client, RecordUpdate, Request};
use super::layout::EngineDir;
use super::lock::PowerLock;
use super::machine::{MachineRecord, machine_id};
use super::map::{io_error, no_machine, not_running};
use super::power::{Access, Power};
use super::volume::Volumes;
use super::{command, creation, layout, log, removal, ssh, types};
use crate::domain::{
    DeviceName, EnvironmentName, Error, ErrorKind, Machine, MachineId, MachineState, Result, Retry, SizeGb, StopCause,
    StopMode, Volume, VolumeId,
};
use crate::ports::{
    AttachVolume, Capabilities, CommandOutput, CreateVolume, EngineBackend, LaunchMachine, LocalCommand, LogSource,
    RunCommand, SessionRequest, SshTarget,
};

/// The boot disk's size when none is asked for. Here it is only remembered.
const DEFAULT_BOOT_DISK_GB: i64 = 50;

/// How often a call begins anew because the machine's state changed under it.
const ATTEMPTS: usize = 5;

/// Engines as groups of processes on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalBackend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: LocalConfig,
    capabilities: Capabilities,
    volumes: Volumes,
    login: String,
}

impl fmt::Display for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local")
    }
}

impl LocalBackend {
    /// Makes the backend of a data directory, which need not exist yet.
    ///
    /// # Errors
    /// `Config` when a path is not absolute.
    pub fn new(config: LocalConfig) -> Result<Self> {
        config.check()?;
        let size = SizeGb::new(DEFAULT_BOOT_DISK_GB)?;
        Ok(Self(Arc::new(Inner {
            capabilities: Capabilities::all(types::engine_types(), size),
            volumes: Volumes::new(&config.data, config.settings.filesystem),
            login: ssh::login_name(),
            config,
        })))
    }

    /// Runs blocking work to its end, also when the caller's future is dropped: nothing stays half done.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "the local backend failed").with_source(error)))
    }
}

impl Inner {
    fn dir(&self, id: &MachineId) -> Result<EngineDir> {
        // Ids come from outside too; one that is not ours must not become a path.
        let hex = id.as_str().strip_prefix("i-").filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        hex.map(|_| EngineDir::of(&self.config.data, id)).ok_or_else(|| no_machine(id.as_str()))
    }

    fn power(&self) -> Power<'_> {
        Power::new(&self.config.agent)
    }

    fn describe(&self, record: MachineRecord) -> Result<Machine> {
        let attachments = self.volumes.attached_to(&record.id)?.into_iter().collect();
        Ok(record.describe(attachments))
    }

    fn launch(&self, request: &LaunchMachine) -> Result<Machine> {
        if !self.capabilities.engine_types.contains_key(&request.engine_type) {
            let known: Vec<&str> = self.capabilities.engine_types.keys().map(String::as_str).collect();
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("unknown engine type {:?}", request.engine_type),
            )
            .with_context("backend", "local")
            .with_hint(format!("choose one of {}", known.join(", "))));
        }
        let id = machine_id(&request.key)?;
        let dir = self.dir(&id)?;
        if !dir.path().exists() {
            removal::sweep(&self.config.data);
            if let Some((lock, record)) = creation::create(&self.config, &dir, &id, request)? {
                return self.describe(self.power().switch_on(&dir, lock, record)?);
            }
        }
        match self.power().access(&dir)? {
            Access::Free(_, record) | Access::Held(record) if record.key != request.key => {
                Err(Error::new(ErrorKind::Internal, format!("machine {id} was launched by another key")))
            }
            // An earlier launch by this key was cut off before the machine had power.
            Access::Free(lock, record) if record.boots == 0 => {
                self.describe(self.power().switch_on(&dir, lock, record)?)
            }
            Access::Free(_, record) | Access::Held(record) => self.describe(record),
        }
    }

    fn list(&self, environment: &EnvironmentName) -> Result<Vec<Machine>> {
        let engines = layout::engines(&self.config.data);
        let entries = match fs::read_dir(&engines) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error("cannot read", &engines, source)),
        };
        let mut records = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with("i-")) else { continue };
            let dir = EngineDir::of(&self.config.data, &MachineId::new(name)?);
            match self.power().observe(&dir, |record| record.environment == *environment) {
                Ok(record) => records.extend(record),
                // It must not hide the others; whoever asks for it alone is told what is wrong with it.
                Err(error) if matches!(error.kind(), ErrorKind::Storage | ErrorKind::Incompatible) => {
                    tracing::warn!(machine = name, error = %error.full_message(), "a machine cannot be listed");
                }
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|one, other| one.id.cmp(&other.id));
        let mut attachments: BTreeMap<MachineId, BTreeMap<DeviceName, VolumeId>> = self.volumes.attachments()?;
        let describe = |record: MachineRecord| {
            let attached = attachments.remove(&record.id).unwrap_or_default();
            record.describe(attached)
        };
        Ok(records.into_iter().map(describe).collect())
    }

    /// Does something to a machine, anew when its state changed between the look and the deed.
    fn attempt<T>(&self, dir: &EngineDir, mut attempt: impl FnMut(Access) -> Result<T>) -> Result<T> {
        let mut tries = 1;
        loop {
            match attempt(self.power().access(dir)?) {
                // The supervisor ended before it could be asked.
                Err(error) if tries < ATTEMPTS && error.kind() == ErrorKind::Unavailable => tries += 1,
                result => return result,
            }
        }
    }

    fn start(&self, id: &MachineId) -> Result<()> {
        let dir = self.dir(id)?;
        self.attempt(&dir, |access| match access {
            Access::Free(lock, record) => self.power().switch_on(&dir, lock, record).map(drop),
            Access::Held(record) => match record.state {
                MachineState::Hibernated => self.power().reach(&dir)?.call(&Request::Thaw).map(drop),
                MachineState::Stopping => {
                    Err(Error::new(ErrorKind::Conflict, format!("machine {id} is still stopping"))
                        .with_retry(Retry::Later)
                        .with_context("backend", "local")
                        .with_hint("wait for it to stop, then run 'dh engine start' again"))
                }
                MachineState::Terminating => Err(no_machine(id.as_str())),
                _ => Ok(()),
            },
        })
    }

    fn stop(&self, id: &MachineId, mode: StopMode) -> Result<()> {
        let dir = self.dir(id)?;
        self.attempt(&dir, |access| match access {
            Access::Free(..) => Ok(()),
            Access::Held(record) => match record.state {
                MachineState::Hibernated | MachineState::Stopping | MachineState::Stopped => Ok(()),
                MachineState::Terminating | MachineState::Terminated => Err(no_machine(id.as_str())),
                MachineState::Pending | MachineState::Running => {
                    let message = match mode {
                        StopMode::Stop => "stopped on request",
                        StopMode::Hibernate => "hibernated on request",
                    };
                    let request = Request::Stop { mode, cause: StopCause::User, message: message.into() };
                    self.power().reach(&dir)?.call(&request).map(drop)
                }
            },
        })
    }

    fn terminate(&self, id: &MachineId) -> Result<()> {
        let Ok(dir) = self.dir(id) else { return Ok(()) };
        if let Err(error) = MachineRecord::load(&dir).and_then(|_| PowerLock::is_held(&dir)) {
            tracing::warn!(machine = %id, error = %error.full_message(), "a damaged machine is terminated");
            return match error.kind() {
                ErrorKind::Storage => self.power().terminate_damaged(&dir),
                _ => Err(error),
            };
        }
        let ended = self.attempt(&dir, |access| match access {
            Access::Free(_lock, mut record) => {
                record.set_state(MachineState::Terminating, None);
                record.save(&dir)?;
                removal::clear(&dir, &record)?;
                removal::remove(&dir)
            }
            Access::Held(record) if record.state == MachineState::Terminating => Ok(()),
            Access::Held(_) => self.power().reach(&dir)?.call(&Request::Terminate).map(drop),
        });
        match ended {
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.path().exists() => {
                removal::sweep(&self.config.data);
                removal::detach_all(&self.config.data, id)
            }
            other => other,
        }
    }

    fn update(&self, id: &MachineId, update: &RecordUpdate) -> Result<()> {
        let dir = self.dir(id)?;
        self.attempt(&dir, |access| match access {
            Access::Free(_lock, mut record) => {
                update.apply(&mut record);
                record.save(&dir)
            }
            Access::Held(_) => self.power().reach(&dir)?.call(&Request::Update(update.clone())).map(drop),
        })
    }

    fn run(&self, request: &RunCommand) -> Result<CommandOutput> {
        let dir = self.dir(&request.machine)?;
        // Makes the record of one that died true, and says that it is stopped.
        match self.power().access(&dir) {
            Ok(Access::Held(_)) => {}
            Ok(Access::Free(..)) => return Err(not_running(request.machine.as_str(), "stopped")),
            // A machine of which the record is lost may run: a studio must come off it before it can be removed.
            Err(error) if error.kind() == ErrorKind::Storage => {
                if Client::connect(&dir.socket()).is_err() {
                    return Err(not_running(request.machine.as_str(), "damaged and has no power"));
                }
            }
            Err(error) => return Err(error),
        }
        command::run(&dir, request)
    }
}

/// Makes a directory and those above it, for their owner only.
pub(super) fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| io_error("cannot make", path, source))
}

#[async_trait]
impl EngineBackend for LocalBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn launch_machine(&self, request: LaunchMachine) -> Result<Machine> {
        self.blocking(move |inner| inner.launch(&request)).await
    }

    async fn describe_machine(&self, id: &MachineId) -> Result<Option<Machine>> {
        let id = id.clone();
        self.blocking(move |inner| {
            let Ok(dir) = inner.dir(&id) else { return Ok(None) };
            inner.power().observe(&dir, |_| true)?.map(|record| inner.describe(record)).transpose()
        })
        .await
    }

    async fn list_machines(&self, environment: &EnvironmentName) -> Result<Vec<Machine>> {
        let environment = environment.clone();
        self.blocking(move |inner| inner.list(&environment)).await
    }

    async fn start_machine(&self, id: &MachineId) -> Result<()> {
        let id = id.clone();
        self.blocking(move |inner| inner.start(&id)).await
    }

    async fn stop_machine(&self, id: &MachineId, mode: StopMode) -> Result<()> {
        let id = id.clone();
        self.blocking(move |inner| inner.stop(&id, mode)).await
    }

    async fn terminate_machine(&self, id: &MachineId) -> Result<()> {
        let id = id.clone();
        self.blocking(move |inner| inner.terminate(&id)).await
    }

    async fn resize_boot_disk(&self, id: &MachineId, size_gb: SizeGb) -> Result<()> {
        let (id, update) = (id.clone(), RecordUpdate { boot_disk_gb: Some(size_gb), ..RecordUpdate::default() });
        self.blocking(move |inner| inner.update(&id, &update)).await
    }

    async fn tag_machine(&self, id: &MachineId, tags: &BTreeMap<String, String>) -> Result<()> {
        let (id, update) = (id.clone(), RecordUpdate { tags: tags.clone(), ..RecordUpdate::default() });
        self.blocking(move |inner| inner.update(&id, &update)).await
    }

    async fn create_volume(&self, request: CreateVolume) -> Result<Volume> {
        self.blocking(move |inner| inner.volumes.create(&request)).await
    }

    async fn describe_volume(&self, id: &VolumeId) -> Result<Option<Volume>> {
        let id = id.clone();
        self.blocking(move |inner| inner.volumes.describe(&id)).await
    }

    async fn list_volumes(&self, environment: &EnvironmentName) -> Result<Vec<Volume>> {
        let environment = environment.clone();
        self.blocking(move |inner| inner.volumes.list(&environment)).await
    }

    async fn attach_volume(&self, request: AttachVolume) -> Result<()> {
        self.blocking(move |inner| inner.volumes.attach(&request)).await
    }

    async fn detach_volume(&self, volume: &VolumeId, machine: &MachineId) -> Result<()> {
        let (volume, machine) = (volume.clone(), machine.clone());
        self.blocking(move |inner| inner.volumes.detach(&volume, &machine)).await
    }

    async fn grow_volume(&self, id: &VolumeId, size_gb: SizeGb) -> Result<()> {
        let id = id.clone();
        self.blocking(move |inner| inner.volumes.grow(&id, size_gb)).await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<()> {
        let id = id.clone();
        self.blocking(move |inner| inner.volumes.delete(&id)).await
    }

    async fn run_command(&self, request: RunCommand) -> Result<CommandOutput> {
        self.blocking(move |inner| inner.run(&request)).await
    }

    async fn read_log(&self, id: &MachineId, source: LogSource, lines: usize) -> Result<Vec<String>> {
        let id = id.clone();
        self.blocking(move |inner| {
            let dir = inner.dir(&id)?;
            if !dir.exists() {
                return Err(no_machine(id.as_str()));
            }
            let path = dir.log(source);
            log::tail(&path, lines).map_err(|source| io_error("cannot read", &path, source))
        })
        .await
    }

    fn session(&self, id: &MachineId, request: SessionRequest) -> Result<LocalCommand> {
        let dir = self.0.dir(id)?;
        let text = |path: &Path| path.display().to_string();
        let mut argv = vec![text(&self.0.config.agent), "session".into(), "--dir".into(), text(dir.path())];
        match request {
            SessionRequest::Shell => argv.push("--shell".into()),
            SessionRequest::Exec(command) => {
                argv.push("--".into());
                argv.extend(command);
            }
        }
        Ok(LocalCommand { argv, env: BTreeMap::new() })
    }

    /// The engine's processes belong to whoever runs dh, so the owner and the administrator log in alike.
    fn ssh_target(&self, machine: &Machine, _admin: bool) -> Result<SshTarget> {
        let dir = self.0.dir(&machine.id)?;
        Ok(ssh::target(&self.0.config.agent, &dir, machine.id.as_str(), &self.0.login))
    }
}
