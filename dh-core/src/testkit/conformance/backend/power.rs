//! Stop, hibernate, start, and the size of the boot disk.

use super::Outcome;
use super::bench::{Bench, check, no_machine, refused};
use crate::domain::{ErrorKind, MachineState, Result, SizeGb, StopMode};

/// A size above the machine's.
fn larger(size: SizeGb) -> Result<SizeGb> {
    SizeGb::new(i64::from(size.get()) + 7)
}

pub(super) async fn a_stopped_machine_starts_again_with_its_boot_disk(bench: &Bench) -> Outcome {
    let before = bench.running_machine().await?;
    bench.backend().stop_machine(&before.id, StopMode::Stop).await?;
    let stopped = bench.until_state(&before.id, MachineState::Stopped).await?;
    check!(stopped.state_reason.is_some(), "nobody can say why it is stopped");
    bench.backend().start_machine(&before.id).await?;
    let after = bench.until_state(&before.id, MachineState::Running).await?;
    check!(after.boot_disk_gb == before.boot_disk_gb, "its disk is {} now", after.boot_disk_gb);
    check!(after.engine == before.engine && after.user == before.user, "it became {after:?}");
    check!(after.state_reason.is_none(), "it runs, and yet has a reason to be stopped: {:?}", after.state_reason);
    check!(after.launched_at >= before.launched_at, "it was started before it was launched");
    Ok(())
}

pub(super) async fn stopping_a_stopped_machine_changes_nothing(bench: &Bench) -> Outcome {
    let id = bench.running_machine().await?.id;
    bench.backend().stop_machine(&id, StopMode::Stop).await?;
    bench.backend().stop_machine(&id, StopMode::Stop).await?;
    let stopped = bench.until_state(&id, MachineState::Stopped).await?;
    bench.backend().stop_machine(&id, StopMode::Stop).await?;
    let after = bench.describe(&id).await?;
    check!(after == stopped, "it was {stopped:?} and is {after:?}");
    Ok(())
}

pub(super) async fn starting_a_running_machine_changes_nothing(bench: &Bench) -> Outcome {
    let before = bench.running_machine().await?;
    bench.backend().start_machine(&before.id).await?;
    let after = bench.describe(&before.id).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn stopping_a_missing_machine_is_not_found(bench: &Bench) -> Outcome {
    refused(bench.backend().stop_machine(&no_machine(), StopMode::Stop).await, ErrorKind::NotFound)?;
    Ok(())
}

pub(super) async fn starting_a_missing_machine_is_not_found(bench: &Bench) -> Outcome {
    refused(bench.backend().start_machine(&no_machine()).await, ErrorKind::NotFound)?;
    Ok(())
}

pub(super) async fn a_stopped_machine_can_be_terminated(bench: &Bench) -> Outcome {
    let id = bench.running_machine().await?.id;
    bench.backend().stop_machine(&id, StopMode::Stop).await?;
    bench.until_state(&id, MachineState::Stopped).await?;
    bench.backend().terminate_machine(&id).await?;
    let gone = bench.until("the stopped machine is gone", async || {
        Ok(bench.backend().describe_machine(&id).await?.is_none().then_some(()))
    });
    Ok(gone.await?)
}

pub(super) async fn a_stopped_machine_runs_no_command(bench: &Bench) -> Outcome {
    let id = bench.running_machine().await?.id;
    bench.backend().stop_machine(&id, StopMode::Stop).await?;
    bench.until_state(&id, MachineState::Stopped).await?;
    refused(bench.command(&id, &["true"], b"").await, ErrorKind::Conflict)?;
    Ok(())
}

pub(super) async fn a_stop_that_cannot_be_done_is_refused(bench: &Bench) -> Outcome {
    let before = bench.running_machine().await?;
    refused(bench.backend().stop_machine(&before.id, StopMode::Stop).await, ErrorKind::Unsupported)?;
    let after = bench.describe(&before.id).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn a_hibernated_machine_starts_again(bench: &Bench) -> Outcome {
    let before = bench.running_machine().await?;
    bench.backend().stop_machine(&before.id, StopMode::Hibernate).await?;
    let hibernated = bench.until_state(&before.id, MachineState::Hibernated).await?;
    bench.backend().stop_machine(&before.id, StopMode::Hibernate).await?;
    let still = bench.describe(&before.id).await?;
    check!(still == hibernated, "a second hibernation made of {hibernated:?} a {still:?}");
    bench.backend().start_machine(&before.id).await?;
    let after = bench.until_state(&before.id, MachineState::Running).await?;
    check!(after.boot_disk_gb == before.boot_disk_gb, "its disk is {} now", after.boot_disk_gb);
    Ok(())
}

pub(super) async fn hibernation_that_cannot_be_done_is_refused(bench: &Bench) -> Outcome {
    let before = bench.running_machine().await?;
    refused(bench.backend().stop_machine(&before.id, StopMode::Hibernate).await, ErrorKind::Unsupported)?;
    let after = bench.describe(&before.id).await?;
    check!(after == before, "it was {before:?} and is {after:?}");
    Ok(())
}

pub(super) async fn a_boot_disk_grows_while_the_machine_runs(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    let size = larger(machine.boot_disk_gb)?;
    bench.backend().resize_boot_disk(&machine.id, size).await?;
    let after = bench.describe(&machine.id).await?;
    check!(after.boot_disk_gb == size, "it should be {size} and is {}", after.boot_disk_gb);
    check!(after.state == MachineState::Running, "it is {:?} now", after.state);
    Ok(())
}

pub(super) async fn a_boot_disk_never_shrinks(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    for size in [SizeGb::new(1)?, machine.boot_disk_gb] {
        bench.backend().resize_boot_disk(&machine.id, size).await?;
        let after = bench.describe(&machine.id).await?;
        check!(after.boot_disk_gb == machine.boot_disk_gb, "{size} made of it {}", after.boot_disk_gb);
    }
    Ok(())
}

pub(super) async fn a_boot_disk_grows_only_while_the_machine_is_stopped(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    let size = larger(machine.boot_disk_gb)?;
    refused(bench.backend().resize_boot_disk(&machine.id, size).await, ErrorKind::Conflict)?;
    check!(bench.describe(&machine.id).await?.boot_disk_gb == machine.boot_disk_gb, "it grew all the same");
    bench.backend().stop_machine(&machine.id, StopMode::Stop).await?;
    bench.until_state(&machine.id, MachineState::Stopped).await?;
    bench.backend().resize_boot_disk(&machine.id, size).await?;
    let after = bench.describe(&machine.id).await?;
    check!(after.boot_disk_gb == size, "it should be {size} and is {}", after.boot_disk_gb);
    Ok(())
}

pub(super) async fn a_resize_that_cannot_be_done_is_refused(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    let size = larger(machine.boot_disk_gb)?;
    refused(bench.backend().resize_boot_disk(&machine.id, size).await, ErrorKind::Unsupported)?;
    Ok(())
}
