//! Volumes: made, attached, detached, grown, deleted.

use std::collections::BTreeSet;

use super::bench::{Bench, check, conflict, device, no_machine, no_volume, refused};
use super::{Failure, Outcome};
use crate::domain::{AttachmentState, ErrorKind, MachineState, SizeGb, StopMode};
use crate::ports::AttachVolume;

pub(super) async fn a_created_volume_is_as_it_was_asked_for(bench: &Bench) -> Outcome {
    let request = bench.volume_request()?;
    let created = bench.backend().create_volume(request.clone()).await?;
    bench.track_volume(&created.id);
    let volume = bench.describe_volume(&created.id).await?;
    check!(volume.user == request.user, "user is {}", volume.user);
    check!(volume.environment == request.environment, "environment is {}", volume.environment);
    check!(volume.size_gb == request.size_gb, "size is {}", volume.size_gb);
    check!(volume.attachment.is_none(), "attached from the start: {:?}", volume.attachment);
    Ok(())
}

pub(super) async fn the_same_key_creates_one_volume(bench: &Bench) -> Outcome {
    let request = bench.volume_request()?;
    let first = bench.backend().create_volume(request.clone()).await?;
    bench.track_volume(&first.id);
    let second = bench.backend().create_volume(request).await?;
    bench.track_volume(&second.id);
    check!(first.id == second.id, "two volumes: {} and {}", first.id, second.id);
    Ok(())
}

pub(super) async fn concurrent_creations_with_one_key_make_one_volume(bench: &Bench) -> Outcome {
    const CALLS: usize = 8;
    let request = bench.volume_request()?;
    let calls = (0..CALLS).map(|_| {
        let (backend, request) = (bench.shared_backend(), request.clone());
        tokio::spawn(async move { backend.create_volume(request).await })
    });
    let mut ids = BTreeSet::new();
    let mut refusals = Vec::new();
    for outcome in futures::future::join_all(calls).await {
        match outcome.map_err(|error| Failure(format!("a creation panicked: {error}")))? {
            Ok(volume) => {
                bench.track_volume(&volume.id);
                ids.insert(volume.id);
            }
            Err(error) => refusals.push(error),
        }
    }
    check!(ids.len() == 1 && refusals.is_empty(), "one key made {ids:?}; refused: {refusals:?}");
    Ok(())
}

pub(super) async fn a_missing_volume_is_described_as_none(bench: &Bench) -> Outcome {
    let described = bench.backend().describe_volume(&no_volume()).await?;
    check!(described.is_none(), "it is {described:?}");
    Ok(())
}

pub(super) async fn a_list_has_the_volumes_of_its_environment_alone(bench: &Bench) -> Outcome {
    let mut mine = vec![bench.volume().await?.id, bench.volume().await?.id];
    mine.sort();
    let mut request = bench.volume_request()?;
    request.environment = bench.other_environment()?;
    let other = bench.backend().create_volume(request).await?.id;
    bench.track_volume(&other);
    let ids = async |environment| -> Result<Vec<_>, Failure> {
        let volumes = bench.backend().list_volumes(environment).await?;
        Ok(volumes.into_iter().map(|volume| volume.id).collect())
    };
    let listed = ids(bench.environment()).await?;
    check!(listed == mine, "{listed:?} are listed, in this order, and {mine:?} are there");
    let listed = ids(&bench.other_environment()?).await?;
    check!(listed == [other.clone()], "{listed:?} are listed elsewhere, and {other} is there");
    Ok(())
}

pub(super) async fn an_attached_volume_shows_on_both_sides(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(2), 1).await?;
    let attachment = bench.describe_volume(&volume).await?.attachment;
    check!(
        attachment.as_ref().is_some_and(|it| it.machine == machine && it.device == device(2)),
        "the volume says {attachment:?}"
    );
    let attachments = bench.describe(&machine).await?.attachments;
    check!(attachments.get(&device(2)) == Some(&volume) && attachments.len() == 1, "the machine says {attachments:?}");
    Ok(())
}

pub(super) async fn attaching_again_at_the_same_place_changes_nothing(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    // The second call meets the first one's work half done, the third one done.
    bench.ask_attach(&volume, &machine, device(0), 3).await?;
    bench.attach(&volume, &machine, device(0), 3).await?;
    let before = bench.describe_volume(&volume).await?;
    bench.ask_attach(&volume, &machine, device(0), 3).await?;
    let after = bench.describe_volume(&volume).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn a_volume_attached_elsewhere_is_in_use(bench: &Bench) -> Outcome {
    let (here, there) = (bench.running_machine().await?.id, bench.running_machine().await?.id);
    let volume = bench.volume().await?.id;
    bench.attach(&volume, &here, device(0), 1).await?;
    conflict(bench.ask_attach(&volume, &there, device(0), 2).await, "volume_in_use")?;
    let attachment = bench.describe_volume(&volume).await?.attachment;
    check!(attachment.as_ref().is_some_and(|it| it.machine == here), "it is at {attachment:?} now");
    check!(bench.describe(&there).await?.attachments.is_empty(), "the other machine has it too");
    Ok(())
}

pub(super) async fn a_volume_has_one_device_name_at_a_time(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 1).await?;
    conflict(bench.ask_attach(&volume, &machine, device(1), 1).await, "volume_in_use")?;
    let attachments = bench.describe(&machine).await?.attachments;
    check!(attachments.len() == 1 && attachments.contains_key(&device(0)), "the machine says {attachments:?}");
    Ok(())
}

pub(super) async fn a_device_name_takes_one_volume(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let (first, second) = (bench.volume().await?.id, bench.volume().await?.id);
    bench.attach(&first, &machine, device(0), 1).await?;
    conflict(bench.ask_attach(&second, &machine, device(0), 1).await, "device_in_use")?;
    check!(bench.describe_volume(&second).await?.attachment.is_none(), "the refused volume is attached");
    bench.attach(&second, &machine, device(1), 1).await?;
    check!(bench.describe(&machine).await?.attachments.len() == 2, "the machine does not have both");
    Ok(())
}

pub(super) async fn an_older_epoch_is_refused_while_attached(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 5).await?;
    conflict(bench.ask_attach(&volume, &machine, device(0), 4).await, "stale_epoch")
}

pub(super) async fn an_older_epoch_is_refused_after_the_detach(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 5).await?;
    bench.detach(&volume, &machine).await?;
    // A runner that was cut off before its attach and wakes up after somebody else's detach.
    conflict(bench.ask_attach(&volume, &machine, device(0), 4).await, "stale_epoch")?;
    check!(bench.describe_volume(&volume).await?.attachment.is_none(), "it is attached all the same");
    Ok(bench.attach(&volume, &machine, device(0), 6).await?)
}

pub(super) async fn attaching_a_missing_volume_is_not_found(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    refused(bench.ask_attach(&no_volume(), &machine, device(0), 1).await, ErrorKind::NotFound)?;
    Ok(())
}

pub(super) async fn attaching_to_a_missing_machine_is_not_found(bench: &Bench) -> Outcome {
    let volume = bench.volume().await?.id;
    refused(bench.ask_attach(&volume, &no_machine(), device(0), 1).await, ErrorKind::NotFound)?;
    check!(bench.describe_volume(&volume).await?.attachment.is_none(), "it is attached to nothing");
    Ok(())
}

pub(super) async fn of_many_machines_that_race_for_a_volume_one_wins(bench: &Bench) -> Outcome {
    let mut machines = Vec::new();
    for _ in 0..bench.racers {
        machines.push(bench.launch_as(bench.machine_request()?).await?.id);
    }
    for machine in &machines {
        bench.until_state(machine, MachineState::Running).await?;
    }
    let volume = bench.volume().await?.id;
    let calls = machines.iter().map(|machine| {
        let backend = bench.shared_backend();
        let request = AttachVolume { volume: volume.clone(), machine: machine.clone(), device: device(0), epoch: 1 };
        tokio::spawn(async move { backend.attach_volume(request).await })
    });
    let mut winners = Vec::new();
    for (machine, outcome) in machines.iter().zip(futures::future::join_all(calls).await) {
        match outcome.map_err(|error| Failure(format!("an attach panicked: {error}")))? {
            Ok(()) => winners.push(machine.clone()),
            Err(error) => conflict::<()>(Err(error), "volume_in_use")?,
        }
    }
    check!(winners.len() == 1, "{} of {} won: {winners:?}", winners.len(), machines.len());
    let attached = bench.until("the winner has the volume", async || {
        let attachment = bench.describe_volume(&volume).await?.attachment;
        Ok(attachment.filter(|it| it.state == AttachmentState::Attached))
    });
    let attached = attached.await?;
    check!(attached.machine == winners[0], "{} was told that it won, {} has it", winners[0], attached.machine);
    for machine in &machines {
        let has = !bench.describe(machine).await?.attachments.is_empty();
        check!(has == (*machine == winners[0]), "machine {machine}, not the winner, has the volume: {has}");
    }
    Ok(())
}

pub(super) async fn a_detached_volume_is_free(bench: &Bench) -> Outcome {
    let (here, there) = (bench.running_machine().await?.id, bench.running_machine().await?.id);
    let volume = bench.volume().await?.id;
    bench.attach(&volume, &here, device(0), 1).await?;
    bench.detach(&volume, &here).await?;
    check!(bench.describe(&here).await?.attachments.is_empty(), "the machine still has it");
    bench.attach(&volume, &there, device(0), 2).await?;
    bench.detach(&volume, &there).await?;
    Ok(bench.attach(&volume, &here, device(0), 3).await?)
}

pub(super) async fn detaching_what_is_not_attached_succeeds(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.backend().detach_volume(&volume, &machine).await?;
    bench.attach(&volume, &machine, device(0), 1).await?;
    bench.backend().detach_volume(&volume, &machine).await?;
    bench.detach(&volume, &machine).await?;
    Ok(bench.backend().detach_volume(&volume, &machine).await?)
}

pub(super) async fn detaching_from_another_machine_changes_nothing(bench: &Bench) -> Outcome {
    let (here, there) = (bench.running_machine().await?.id, bench.running_machine().await?.id);
    let volume = bench.volume().await?.id;
    bench.attach(&volume, &here, device(0), 1).await?;
    let before = bench.describe_volume(&volume).await?;
    bench.backend().detach_volume(&volume, &there).await?;
    let after = bench.describe_volume(&volume).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn a_volume_grows(bench: &Bench) -> Outcome {
    let volume = bench.volume().await?.id;
    let size = SizeGb::new(3)?;
    bench.backend().grow_volume(&volume, size).await?;
    bench.backend().grow_volume(&volume, size).await?;
    let after = bench.describe_volume(&volume).await?.size_gb;
    check!(after == size, "it should be {size} and is {after}");
    refused(bench.backend().grow_volume(&no_volume(), size).await, ErrorKind::NotFound)?;
    Ok(())
}

pub(super) async fn a_volume_never_shrinks(bench: &Bench) -> Outcome {
    let volume = bench.volume().await?.id;
    bench.backend().grow_volume(&volume, SizeGb::new(3)?).await?;
    bench.backend().grow_volume(&volume, SizeGb::new(2)?).await?;
    let after = bench.describe_volume(&volume).await?.size_gb;
    check!(after == SizeGb::new(3)?, "it was 3GB and is {after}");
    Ok(())
}

pub(super) async fn an_attached_volume_is_not_deleted(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 1).await?;
    let before = bench.describe_volume(&volume).await?;
    refused(bench.backend().delete_volume(&volume).await, ErrorKind::Conflict)?;
    let after = bench.describe_volume(&volume).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn deleting_a_missing_volume_succeeds(bench: &Bench) -> Outcome {
    bench.backend().delete_volume(&no_volume()).await?;
    let volume = bench.volume().await?.id;
    bench.backend().delete_volume(&volume).await?;
    check!(bench.backend().describe_volume(&volume).await?.is_none(), "it is still there");
    Ok(bench.backend().delete_volume(&volume).await?)
}

pub(super) async fn a_volume_outlives_its_machine(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 1).await?;
    bench.backend().terminate_machine(&machine).await?;
    let free = bench.until("the volume is free", async || {
        Ok(bench.describe_volume(&volume).await?.attachment.is_none().then_some(()))
    });
    free.await?;
    let other = bench.running_machine().await?.id;
    Ok(bench.attach(&volume, &other, device(0), 2).await?)
}

pub(super) async fn a_volume_stays_attached_over_a_stop(bench: &Bench) -> Outcome {
    let (machine, volume) = (bench.running_machine().await?.id, bench.volume().await?.id);
    bench.attach(&volume, &machine, device(0), 1).await?;
    bench.backend().stop_machine(&machine, StopMode::Stop).await?;
    let stopped = bench.until_state(&machine, MachineState::Stopped).await?;
    check!(stopped.attachments.get(&device(0)) == Some(&volume), "stopped, it has {:?}", stopped.attachments);
    bench.backend().start_machine(&machine).await?;
    let started = bench.until_state(&machine, MachineState::Running).await?;
    check!(started.attachments.get(&device(0)) == Some(&volume), "started, it has {:?}", started.attachments);
    Ok(())
}

pub(super) async fn volumes_that_cannot_be_are_refused(bench: &Bench) -> Outcome {
    refused(bench.backend().create_volume(bench.volume_request()?).await, ErrorKind::Unsupported)?;
    let machine = bench.running_machine().await?.id;
    refused(bench.ask_attach(&no_volume(), &machine, device(0), 1).await, ErrorKind::Unsupported)?;
    Ok(())
}
