//! A backend in memory: machines and volumes that behave like a cloud's, as slow and as faulty as a test wants them.

mod agent;
mod boot;
mod calls;
mod controls;
mod machines;
#[cfg(test)]
mod tests;
mod volumes;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::boot::Agent;
use self::world::{Now, World};
use super::{FaultKind, Faults};
use crate::domain::{
    EnvironmentName, Error, ErrorKind, Machine, MachineId, Result, SizeGb, StopCause, StopMode, Volume, VolumeId,
};
use crate::ports::{
    AttachVolume, Capabilities, Clock, CommandOutput, CreateVolume, EngineBackend, EngineType, LaunchMachine,
    LocalCommand, LogSource, RunCommand, SessionRequest, SshTarget, StateStore,
};

pub use self::calls::{Call, CallRecord, Latencies};
pub use self::world::{Filesystem, Leaks};

/// An [`EngineBackend`] in memory.
///
/// It takes its time from a [`Clock`], its latencies from [`Latencies`] and its faults from [`Self::faults`]. Volumes
/// have contents, so that a test can tell whether a studio's data is intact. Machines have an agent that goes through
/// the nine bootstrap stages, reports them to the store given with [`Self::with_store`], and answers the commands
/// `dh-agent mount`, `unmount`, `coffee`, `policy` and `status`. Clones share everything.
#[derive(Debug, Clone)]
pub struct FakeBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    capabilities: Capabilities,
    store: Option<Arc<dyn StateStore>>,
    faults: Faults<Call>,
    world: Mutex<World>,
}

impl Shared {
    /// Brings the world up to now and lets somebody at it.
    fn with<T>(&self, act: impl FnOnce(&mut World, Now) -> T) -> T {
        let now = Now { boot: self.clock.since_boot(), wall: self.clock.now() };
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(now.boot);
        act(&mut world, now)
    }
}

impl FakeBackend {
    /// Makes a backend that can do everything, with a cloud's latencies and the types `cpu` and `a10g`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let engine_type = |description: &str, instance_type: &str, vcpus, memory_gb, gpus| EngineType {
            description: description.to_owned(),
            instance_type: instance_type.to_owned(),
            vcpus,
            memory_gb,
            gpus,
        };
        let types = BTreeMap::from([
            ("cpu".to_owned(), engine_type("8 vCPU, 64 GB RAM", "fake.2xlarge", 8, 64, 0)),
            ("a10g".to_owned(), engine_type("8 vCPU, 32 GB RAM, 1 A10G", "fake.gpu", 8, 32, 1)),
        ]);
        let capabilities = Capabilities::all(types, SizeGb::new(50).expect("50 GB is a size"));
        let world = Mutex::new(World::new(Latencies::default()));
        Self { shared: Arc::new(Shared { clock, capabilities, store: None, faults: Faults::new(), world }) }
    }

    /// Sets how long everything takes.
    pub fn with_latencies(self, latencies: Latencies) -> Self {
        self.set_latencies(latencies);
        self
    }

    /// Sets what it can do.
    pub fn with_capabilities(self, change: impl FnOnce(&mut Capabilities)) -> Self {
        self.configure(|shared| change(&mut shared.capabilities))
    }

    /// Sets where the machines' agents report to. Give them the store itself, not one process's faulty view of it.
    pub fn with_store(self, store: Arc<dyn StateStore>) -> Self {
        self.configure(|shared| shared.store = Some(store))
    }

    fn configure(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::get_mut(&mut self.shared).expect("a fake backend is configured before it is shared"));
        self
    }

    /// Makes a call: counted, delayed, and under the fault planned for it.
    async fn call<T>(
        &self,
        call: Call,
        target: impl fmt::Display,
        effect: impl FnOnce(&mut World, &Capabilities, Now) -> Result<T>,
    ) -> Result<T> {
        let fault = self.begin(call, &target);
        let latency = self.shared.with(|world, _| world.latencies.of(call));
        self.shared.faults.apply(fault, self.slowly(latency, effect)).await
    }

    fn begin(&self, call: Call, target: &dyn fmt::Display) -> Option<FaultKind> {
        self.shared.with(|world, now| {
            world.log.push(CallRecord { call, target: target.to_string(), at: now.boot });
        });
        self.shared.faults.strike(call)
    }

    /// Lets an effect happen half way through a latency: whoever drops the call then may have missed it or not.
    async fn slowly<T>(
        &self,
        latency: Duration,
        effect: impl FnOnce(&mut World, &Capabilities, Now) -> Result<T>,
    ) -> Result<T> {
        self.pause(latency / 2).await;
        let (outcome, powered) = self.shared.with(|world, now| {
            let outcome = effect(world, &self.shared.capabilities, now);
            (outcome, std::mem::take(&mut world.powered))
        });
        for (machine, generation) in powered {
            tokio::spawn(Agent { shared: Arc::downgrade(&self.shared), machine, generation }.run());
        }
        self.pause(latency / 2).await;
        outcome
    }

    async fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            self.shared.clock.sleep(duration).await;
        }
    }
}

impl fmt::Display for FakeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fake")
    }
}

#[async_trait]
impl EngineBackend for FakeBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    async fn launch_machine(&self, request: LaunchMachine) -> Result<Machine> {
        let engine = request.engine.clone();
        self.call(Call::LaunchMachine, engine, |world, can, now| world.launch(can, request, now)).await
    }

    async fn describe_machine(&self, id: &MachineId) -> Result<Option<Machine>> {
        self.call(Call::DescribeMachine, id, |world, _, _| Ok(world.describe_machine(id))).await
    }

    async fn list_machines(&self, environment: &EnvironmentName) -> Result<Vec<Machine>> {
        self.call(Call::ListMachines, environment, |world, _, _| Ok(world.list_machines(environment))).await
    }

    async fn start_machine(&self, id: &MachineId) -> Result<()> {
        self.call(Call::StartMachine, id, |world, can, now| world.start(can, id, now)).await
    }

    async fn stop_machine(&self, id: &MachineId, mode: StopMode) -> Result<()> {
        let why = (StopCause::User, "somebody asked");
        self.call(Call::StopMachine, id, |world, can, now| world.stop(can, id, mode, why, now)).await
    }

    async fn terminate_machine(&self, id: &MachineId) -> Result<()> {
        let effect = |world: &mut World, _: &Capabilities, now| {
            world.terminate(id, now);
            Ok(())
        };
        self.call(Call::TerminateMachine, id, effect).await
    }

    async fn resize_boot_disk(&self, id: &MachineId, size_gb: SizeGb) -> Result<()> {
        self.call(Call::ResizeBootDisk, id, |world, can, _| world.resize_boot_disk(can, id, size_gb)).await
    }

    async fn tag_machine(&self, id: &MachineId, tags: &BTreeMap<String, String>) -> Result<()> {
        let effect = |world: &mut World, _: &Capabilities, _| {
            world.machine(id)?.tags.extend(tags.clone());
            Ok(())
        };
        self.call(Call::TagMachine, id, effect).await
    }

    async fn create_volume(&self, request: CreateVolume) -> Result<Volume> {
        let user = request.user.clone();
        self.call(Call::CreateVolume, user, |world, can, _| world.create_volume(can, request)).await
    }

    async fn describe_volume(&self, id: &VolumeId) -> Result<Option<Volume>> {
        self.call(Call::DescribeVolume, id, |world, _, _| Ok(world.view_volume(id))).await
    }

    async fn list_volumes(&self, environment: &EnvironmentName) -> Result<Vec<Volume>> {
        self.call(Call::ListVolumes, environment, |world, can, _| world.list_volumes(can, environment)).await
    }

    async fn attach_volume(&self, request: AttachVolume) -> Result<()> {
        let volume = request.volume.clone();
        self.call(Call::AttachVolume, volume, |world, can, now| world.attach(can, request, now)).await
    }

    async fn detach_volume(&self, volume: &VolumeId, machine: &MachineId) -> Result<()> {
        self.call(Call::DetachVolume, volume, |world, can, now| world.detach(can, volume, machine, now)).await
    }

    async fn grow_volume(&self, id: &VolumeId, size_gb: SizeGb) -> Result<()> {
        self.call(Call::GrowVolume, id, |world, can, _| world.grow_volume(can, id, size_gb)).await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<()> {
        self.call(Call::DeleteVolume, id, |world, can, _| world.delete_volume(can, id)).await
    }

    async fn run_command(&self, request: RunCommand) -> Result<CommandOutput> {
        let call = Call::of_command(&request.argv);
        let fault = self.begin(call, &request.machine);
        if call != Call::RunCommand
            && let Some(FaultKind::Exit(error)) = fault
        {
            return Ok(agent::failure(&error));
        }
        let latency = self.shared.with(|world, _| world.latencies.of(call));
        let effect = async {
            if latency > request.timeout {
                self.pause(request.timeout).await;
                let message = format!("{} was killed after {:?}", request.argv.join(" "), request.timeout);
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            self.slowly(latency, |world, _, now| world.run_command(&request, now)).await
        };
        self.shared.faults.apply(fault, effect).await
    }

    async fn read_log(&self, id: &MachineId, source: LogSource, lines: usize) -> Result<Vec<String>> {
        self.call(Call::ReadLog, id, |world, _, _| world.read_log(id, source, lines)).await
    }

    fn session(&self, id: &MachineId, request: SessionRequest) -> Result<LocalCommand> {
        let mut argv = vec!["fake-session".to_owned(), id.to_string()];
        match request {
            SessionRequest::Exec(command) => {
                argv.push("exec".to_owned());
                argv.extend(command);
            }
            SessionRequest::Shell => argv.push("shell".to_owned()),
        }
        Ok(LocalCommand { argv, env: BTreeMap::new() })
    }

    fn ssh_target(&self, machine: &Machine, admin: bool) -> Result<SshTarget> {
        Ok(SshTarget {
            host_name: machine.id.to_string(),
            user: if admin { "admin".to_owned() } else { machine.user.to_string() },
            proxy_command: vec!["fake-session".to_owned(), machine.id.to_string(), "ssh".to_owned()],
            options: Vec::new(),
        })
    }
}
