//! What a test sees of the fake and can do to it behind the caller's back.

use std::collections::BTreeMap;

use super::world::{Filesystem, Leaks, StageFault, World};
use super::{Call, CallRecord, FakeBackend, FaultKind, Faults, Latencies};
use crate::domain::{
    Bootstrap, Error, ErrorKind, IdlePolicy, IdleStatus, MachineId, Result, StageName, StopCause, StopMode, VolumeId,
};
use crate::ports::CommandOutput;

impl FakeBackend {
    /// Returns the faults, to plan some and to run futures until one of them hangs.
    pub fn faults(&self) -> &Faults<Call> {
        &self.shared.faults
    }

    /// Makes the next call of this kind go wrong, once. See [`Self::faults`] for more.
    pub fn fail_next(&self, call: Call, kind: FaultKind) {
        self.shared.faults.fail_next(call, kind);
    }

    /// Changes how long everything takes from now on; what is under way keeps its time.
    pub fn set_latencies(&self, latencies: Latencies) {
        self.shared.with(|world, _| world.latencies = latencies);
    }

    /// Makes a bootstrap stage fail whenever it is reached, with the last lines of its log.
    pub fn fail_stage(&self, stage: StageName, error: &str, log_tail: &[&str]) {
        let log_tail = log_tail.iter().map(|line| (*line).to_owned()).collect();
        let fault = StageFault { error: error.to_owned(), log_tail };
        self.shared.with(|world, _| world.stage_faults.insert(stage, fault));
    }

    /// Lets a bootstrap stage succeed again.
    pub fn heal_stage(&self, stage: StageName) {
        self.shared.with(|world, _| world.stage_faults.remove(&stage));
    }

    /// Says what agents could not do at their starts from now on.
    pub fn set_start_problems(&self, problems: &[&str]) {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        self.shared.with(|world, _| world.start_problems = problems);
    }

    /// Says what a program prints, whatever its arguments. Programs without an answer are not found (code 127).
    pub fn set_command(&self, program: &str, output: CommandOutput) {
        self.shared.with(|world, _| world.commands.insert(program.to_owned(), output));
    }

    /// Sets the zones in which further machines and volumes are made.
    pub fn set_zones(&self, machines: &str, volumes: &str) {
        self.shared.with(|world, _| {
            world.machine_zone = machines.to_owned();
            world.volume_zone = volumes.to_owned();
        });
    }

    /// Returns every call so far, in order.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.shared.with(|world, _| world.log.clone())
    }

    /// Returns how often a call was made.
    pub fn count(&self, call: Call) -> usize {
        self.shared.with(|world, _| world.log.iter().filter(|record| record.call == call).count())
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.shared.with(|world, _| world.log.clear());
    }

    /// Returns everything that exists and is not on its way out.
    pub fn leaks(&self) -> Leaks {
        self.shared.with(|world, _| world.leaks())
    }

    /// Ends a machine at once, as a crash does; it is stopped then.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn crash_machine(&self, id: &MachineId) -> Result<()> {
        self.shared.with(|world, now| world.crash(id, StopCause::Died, now))
    }

    /// Stops a machine as its own agent does when it finds it idle.
    ///
    /// # Errors
    /// Those of `stop_machine`.
    pub fn stop_by_agent(&self, id: &MachineId, mode: StopMode, message: &str) -> Result<()> {
        let can = &self.shared.capabilities;
        self.shared.with(|world, now| world.stop(can, id, mode, (StopCause::Idle, message), now))
    }

    /// Lets a machine vanish with its boot disk, as if somebody had terminated it elsewhere.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn lose_machine(&self, id: &MachineId) -> Result<()> {
        self.shared.with(|world, now| {
            let machine = world.machine(id)?;
            machine.next = Some((now.boot, crate::domain::MachineState::Terminated));
            world.settle(now.boot);
            Ok(())
        })
    }

    /// Returns a machine's tags.
    pub fn tags(&self, id: &MachineId) -> BTreeMap<String, String> {
        self.shared.with(|world, _| world.machines.get(id).map(|machine| machine.tags.clone()).unwrap_or_default())
    }

    /// Returns how far a machine's bootstrap is, as its agent knows it.
    pub fn bootstrap(&self, id: &MachineId) -> Bootstrap {
        self.shared.with(|world, _| world.machines.get(id).map(|machine| machine.bootstrap.clone()).unwrap_or_default())
    }

    /// Returns the idle policy that a machine's agent follows.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn policy(&self, id: &MachineId) -> Result<IdlePolicy> {
        self.shared.with(|world, _| Ok(world.machine(id)?.policy.clone()))
    }

    /// Sets what `dh-agent status` prints on a machine.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_idle_status(&self, id: &MachineId, status: IdleStatus) -> Result<()> {
        self.shared.with(|world, _| {
            world.machine(id)?.idle = Some(status);
            Ok(())
        })
    }

    /// Writes a file into a studio, as its user would.
    ///
    /// # Errors
    /// `Conflict` unless the volume is mounted on a machine with power; `NotFound`.
    pub fn write_file(&self, volume: &VolumeId, path: &str, bytes: &[u8]) -> Result<()> {
        self.shared.with(|world, _| {
            must_be_mounted(world, volume)?;
            world.volume(volume)?.files.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    /// Returns a file of a volume, wherever that is; `None` when it is not there.
    pub fn read_file(&self, volume: &VolumeId, path: &str) -> Option<Vec<u8>> {
        self.shared.with(|world, _| world.volumes.get(volume)?.files.get(path).cloned())
    }

    /// Returns what a signature check would find on a volume.
    pub fn filesystem(&self, volume: &VolumeId) -> Option<Filesystem> {
        self.shared.with(|world, _| world.volumes.get(volume)?.filesystem.clone())
    }

    /// Puts something on a volume, as if it had been made elsewhere.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_filesystem(&self, volume: &VolumeId, filesystem: Option<Filesystem>) -> Result<()> {
        self.shared.with(|world, _| {
            world.volume(volume)?.filesystem = filesystem;
            Ok(())
        })
    }

    /// Returns how often a volume was formatted. More than once means that data was lost.
    pub fn formats(&self, volume: &VolumeId) -> u64 {
        self.shared.with(|world, _| world.volumes.get(volume).map_or(0, |volume| volume.formats))
    }

    /// Lets somebody hold files of a mounted studio open: `python (pid 4711)`.
    ///
    /// # Errors
    /// `Conflict` unless the volume is mounted on a machine with power; `NotFound`.
    pub fn hold_open(&self, volume: &VolumeId, holder: &str) -> Result<()> {
        self.shared.with(|world, _| {
            must_be_mounted(world, volume)?;
            world.volume(volume)?.holders.insert(holder.to_owned());
            Ok(())
        })
    }

    /// Lets everybody close the files of a studio.
    pub fn release(&self, volume: &VolumeId) {
        self.shared.with(|world, _| {
            if let Some(volume) = world.volumes.get_mut(volume) {
                volume.holders.clear();
            }
        });
    }

    /// Returns the machine with power on which a volume is mounted, and under which epoch.
    pub fn mounted_on(&self, volume: &VolumeId) -> Option<(MachineId, u64)> {
        self.shared.with(|world, _| {
            let mut machines = world.machines.iter().filter(|(_, machine)| machine.has_power());
            machines.find_map(|(id, machine)| Some((id.clone(), machine.mounts.get(volume)?.epoch)))
        })
    }
}

fn must_be_mounted(world: &mut World, volume: &VolumeId) -> Result<()> {
    world.volume(volume)?;
    if world.is_mounted(volume) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, format!("volume {volume} is not mounted anywhere")))
}
