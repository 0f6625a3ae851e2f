//! What the fake's calls about volumes do.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{FakeAttachment, FakeVolume, Now, World, conflict, not_now, unsupported};
use crate::domain::{
    Attachment, AttachmentState, EnvironmentName, Error, ErrorKind, MachineId, MachineState, Result, SizeGb, Volume,
    VolumeId,
};
use crate::ports::{AttachVolume, Capabilities, CreateVolume};

fn supported(capabilities: &Capabilities) -> Result<()> {
    if capabilities.volumes { Ok(()) } else { Err(unsupported("volumes")) }
}

impl World {
    pub(super) fn create_volume(&mut self, capabilities: &Capabilities, request: CreateVolume) -> Result<Volume> {
        supported(capabilities)?;
        if let Some((before, id)) = self.creations.get(&request.key) {
            if *before != request {
                return Err(conflict(
                    "idempotency_mismatch",
                    format!("key {} created another volume before", request.key.as_str()),
                ));
            }
            return self.view_volume(id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("volume {id} of key {} is deleted", request.key.as_str()))
            });
        }
        self.made += 1;
        let id = VolumeId::new(format!("vol-{:017x}", 0xfa4e_0000_0000_u64 + self.made))?;
        let volume = Volume {
            id: id.clone(),
            user: request.user.clone(),
            environment: request.environment.clone(),
            size_gb: request.size_gb,
            zone: self.volume_zone.clone(),
            attachment: None,
            epoch: 0,
            caveat: None,
        };
        let fake = FakeVolume {
            volume: volume.clone(),
            attachment: None,
            epoch: 0,
            filesystem: None,
            files: BTreeMap::new(),
            formats: 0,
            holders: BTreeSet::new(),
        };
        self.volumes.insert(id.clone(), fake);
        self.creations.insert(request.key.clone(), (request, id));
        Ok(volume)
    }

    pub(super) fn view_volume(&self, id: &VolumeId) -> Option<Volume> {
        let fake = self.volumes.get(id)?;
        let mut volume = fake.volume.clone();
        volume.attachment = fake.attachment.as_ref().map(|attachment| Attachment {
            machine: attachment.machine.clone(),
            device: attachment.device,
            state: attachment.state,
        });
        volume.epoch = fake.epoch;
        Some(volume)
    }

    pub(super) fn list_volumes(
        &self,
        capabilities: &Capabilities,
        environment: &EnvironmentName,
    ) -> Result<Vec<Volume>> {
        supported(capabilities)?;
        let volumes = self.volumes.keys().filter_map(|id| self.view_volume(id));
        Ok(volumes.filter(|volume| volume.environment == *environment).collect())
    }

    pub(super) fn attach(&mut self, capabilities: &Capabilities, request: AttachVolume, now: Now) -> Result<()> {
        supported(capabilities)?;
        let AttachVolume { volume: id, machine: machine_id, device, epoch } = request;
        let until = now.boot + self.latencies.attaching;
        let machine = self.machine(&machine_id)?.machine.clone();
        let volume = self.volume(&id)?;
        if epoch < volume.epoch {
            return Err(conflict(
                "stale_epoch",
                format!("volume {id} has been attached under epoch {}, and this is {epoch}", volume.epoch),
            ));
        }
        if let Some(attachment) = &volume.attachment {
            let there = attachment.machine == machine_id && attachment.device == device;
            if there && matches!(attachment.state, AttachmentState::Attaching | AttachmentState::Attached) {
                volume.epoch = epoch;
                return Ok(());
            }
            return Err(conflict(
                "volume_in_use",
                format!("volume {id} is attached to {} as {}", attachment.machine, attachment.device),
            )
            .with_context("machine", &attachment.machine));
        }
        if volume.volume.zone != machine.zone {
            return Err(conflict(
                "wrong_zone",
                format!("volume {id} is in zone {}, machine {machine_id} in {}", volume.volume.zone, machine.zone),
            ));
        }
        if !matches!(machine.state, MachineState::Running | MachineState::Stopped) {
            return Err(not_now(format!(
                "nothing can be attached to machine {machine_id} in state {:?}",
                machine.state
            )));
        }
        let taken = |fake: &FakeVolume| {
            fake.attachment.as_ref().is_some_and(|other| other.machine == machine_id && other.device == device)
        };
        if self.volumes.values().any(taken) {
            return Err(conflict("device_in_use", format!("{device} of machine {machine_id} is in use")));
        }
        let volume = self.volume(&id)?;
        volume.epoch = epoch;
        volume.attachment =
            Some(FakeAttachment { machine: machine_id, device, state: AttachmentState::Attaching, until });
        self.settle(now.boot);
        Ok(())
    }

    pub(super) fn detach(
        &mut self,
        capabilities: &Capabilities,
        id: &VolumeId,
        machine_id: &MachineId,
        now: Now,
    ) -> Result<()> {
        supported(capabilities)?;
        let until = now.boot + self.latencies.detaching;
        let mounted = self.is_mounted(id);
        let Some(volume) = self.volumes.get_mut(id) else { return Ok(()) };
        let Some(attachment) = volume.attachment.as_mut().filter(|attachment| attachment.machine == *machine_id) else {
            return Ok(());
        };
        if mounted {
            attachment.state = AttachmentState::Busy;
            return Ok(());
        }
        if attachment.state != AttachmentState::Detaching {
            attachment.state = AttachmentState::Detaching;
            attachment.until = until;
        }
        if let Some(machine) = self.machines.get_mut(machine_id) {
            machine.mounts.remove(id);
        }
        self.settle(now.boot);
        Ok(())
    }

    pub(super) fn grow_volume(&mut self, capabilities: &Capabilities, id: &VolumeId, size: SizeGb) -> Result<()> {
        supported(capabilities)?;
        let volume = self.volume(id)?;
        volume.volume.size_gb = volume.volume.size_gb.max(size);
        Ok(())
    }

    pub(super) fn delete_volume(&mut self, capabilities: &Capabilities, id: &VolumeId) -> Result<()> {
        supported(capabilities)?;
        if let Some(attachment) = self.volumes.get(id).and_then(|volume| volume.attachment.as_ref()) {
            return Err(conflict("volume_in_use", format!("volume {id} is attached to {}", attachment.machine))
                .with_hint("detach the studio first: dh studio detach"));
        }
        self.volumes.remove(id);
        Ok(())
    }
}
