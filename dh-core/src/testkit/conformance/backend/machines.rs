//! Launch, describe, list, terminate.

use std::collections::{BTreeMap, BTreeSet};

use super::bench::{Bench, check, no_machine, refused};
use super::{Failure, Outcome};
use crate::domain::{ErrorKind, MachineState};
use crate::ports::{LogSource, SessionRequest};

pub(super) async fn a_launched_machine_comes_to_run_as_it_was_asked_for(bench: &Bench) -> Outcome {
    let request = bench.machine_request()?;
    let launched = bench.launch_as(request.clone()).await?;
    check!(
        matches!(launched.state, MachineState::Pending | MachineState::Running),
        "a machine just launched is {:?}",
        launched.state
    );
    let machine = bench.until_state(&launched.id, MachineState::Running).await?;
    check!(machine.engine == request.engine, "engine is {}", machine.engine);
    check!(machine.environment == request.environment, "environment is {}", machine.environment);
    check!(machine.user == request.user, "user is {}", machine.user);
    check!(machine.boot_disk_gb == request.boot_disk_gb, "boot disk is {}", machine.boot_disk_gb);
    check!(machine.attachments.is_empty(), "attached from the start: {:?}", machine.attachments);
    check!(machine.state_reason.is_none(), "a running machine has a reason to be stopped: {:?}", machine.state_reason);
    let instance_type = &bench.backend().capabilities().engine_types[&request.engine_type].instance_type;
    check!(machine.instance_type == *instance_type, "instance type is {}", machine.instance_type);
    Ok(())
}

pub(super) async fn the_same_key_launches_one_machine(bench: &Bench) -> Outcome {
    let request = bench.machine_request()?;
    let first = bench.launch_as(request.clone()).await?;
    let second = bench.launch_as(request.clone()).await?;
    check!(first.id == second.id, "two machines: {} and {}", first.id, second.id);
    bench.until_state(&first.id, MachineState::Running).await?;
    let later = bench.launch_as(request).await?;
    check!(first.id == later.id, "another machine once the first one runs: {} and {}", first.id, later.id);
    let listed = bench.backend().list_machines(bench.environment()).await?;
    check!(listed.len() == 1, "{} machines are listed", listed.len());
    Ok(())
}

pub(super) async fn concurrent_launches_with_one_key_make_one_machine(bench: &Bench) -> Outcome {
    const CALLS: usize = 8;
    let request = bench.machine_request()?;
    let calls = (0..CALLS).map(|_| {
        let (backend, request) = (bench.shared_backend(), request.clone());
        tokio::spawn(async move { backend.launch_machine(request).await })
    });
    let mut ids = BTreeSet::new();
    let mut refusals = Vec::new();
    for outcome in futures::future::join_all(calls).await {
        match outcome.map_err(|error| Failure(format!("a launch panicked: {error}")))? {
            Ok(machine) => {
                bench.track_machine(&machine.id);
                ids.insert(machine.id);
            }
            Err(error) => refusals.push(error),
        }
    }
    check!(ids.len() == 1, "{CALLS} launches with one key made {ids:?}; refused: {refusals:?}");
    check!(refusals.is_empty(), "the same request was refused: {refusals:?}");
    let listed = bench.backend().list_machines(bench.environment()).await?;
    check!(listed.len() == 1, "{} machines are listed", listed.len());
    Ok(())
}

pub(super) async fn another_key_launches_another_machine(bench: &Bench) -> Outcome {
    let first = bench.launch_as(bench.machine_request()?).await?;
    let second = bench.launch_as(bench.machine_request()?).await?;
    check!(first.id != second.id, "two keys share machine {}", first.id);
    Ok(())
}

pub(super) async fn an_unknown_engine_type_is_refused(bench: &Bench) -> Outcome {
    let mut request = bench.machine_request()?;
    request.engine_type = "no-such-type".into();
    refused(bench.launch_as(request).await, ErrorKind::InvalidArgument)?;
    let listed = bench.backend().list_machines(bench.environment()).await?;
    check!(listed.is_empty(), "something was launched: {listed:?}");
    Ok(())
}

pub(super) async fn a_missing_machine_is_described_as_none(bench: &Bench) -> Outcome {
    let described = bench.backend().describe_machine(&no_machine()).await?;
    check!(described.is_none(), "it is {described:?}");
    Ok(())
}

pub(super) async fn a_list_has_the_machines_of_its_environment_alone(bench: &Bench) -> Outcome {
    let mut mine = Vec::new();
    for _ in 0..2 {
        mine.push(bench.launch_as(bench.machine_request()?).await?.id);
    }
    let mut request = bench.machine_request()?;
    request.environment = bench.other_environment()?;
    let other = bench.launch_as(request).await?.id;
    mine.sort();
    let ids = async |environment| -> Result<Vec<_>, Failure> {
        let machines = bench.backend().list_machines(environment).await?;
        Ok(machines.into_iter().map(|machine| machine.id).collect())
    };
    let listed = ids(bench.environment()).await?;
    check!(listed == mine, "{listed:?} are listed, in this order, and {mine:?} are there");
    let listed = ids(&bench.other_environment()?).await?;
    check!(listed == [other.clone()], "{listed:?} are listed elsewhere, and {other} is there");
    Ok(())
}

pub(super) async fn a_terminated_machine_is_gone(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    bench.backend().terminate_machine(&machine.id).await?;
    let gone = bench.until("the machine is gone", async || {
        Ok(bench.backend().describe_machine(&machine.id).await?.is_none().then_some(()))
    });
    gone.await?;
    let listed = bench.backend().list_machines(bench.environment()).await?;
    check!(listed.is_empty(), "it is still listed: {listed:?}");
    Ok(())
}

pub(super) async fn terminating_a_missing_machine_succeeds(bench: &Bench) -> Outcome {
    Ok(bench.backend().terminate_machine(&no_machine()).await?)
}

pub(super) async fn terminating_twice_succeeds(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    bench.backend().terminate_machine(&machine.id).await?;
    bench.backend().terminate_machine(&machine.id).await?;
    let gone = bench.until("the machine is gone", async || {
        Ok(bench.backend().describe_machine(&machine.id).await?.is_none().then_some(()))
    });
    gone.await?;
    Ok(bench.backend().terminate_machine(&machine.id).await?)
}

pub(super) async fn tags_can_be_set_again_and_again(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    let tags = BTreeMap::from([("purpose".to_owned(), "conformance".to_owned())]);
    bench.backend().tag_machine(&machine.id, &tags).await?;
    bench.backend().tag_machine(&machine.id, &tags).await?;
    let after = bench.describe(&machine.id).await?;
    check!(after == machine, "tags changed the machine: {after:?}");
    Ok(())
}

pub(super) async fn a_log_has_no_more_lines_than_asked_for(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    for source in [LogSource::Bootstrap, LogSource::Agent, LogSource::Ledger, LogSource::Console] {
        for lines in [0, 1, 5] {
            let log = bench.backend().read_log(&machine.id, source, lines).await?;
            check!(log.len() <= lines, "{} lines of {source:?} came, {lines} were asked for", log.len());
            check!(log.iter().all(|line| !line.contains('\n')), "a line of {source:?} is several: {log:?}");
        }
    }
    Ok(())
}

pub(super) async fn a_session_carries_the_command_unchanged(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    let words = ["printf", "%s", "two words; $HOME"].map(str::to_owned).to_vec();
    let session = bench.backend().session(&machine.id, SessionRequest::Exec(words.clone()))?;
    check!(session.argv.len() > words.len(), "no program carries {words:?}: {:?}", session.argv);
    check!(session.argv.ends_with(&words), "the command became {:?}", session.argv);
    let shell = bench.backend().session(&machine.id, SessionRequest::Shell)?;
    check!(!shell.argv.is_empty(), "a shell is opened by no program");
    check!(shell != session, "a shell and a command are the same: {shell:?}");
    Ok(())
}

pub(super) async fn an_ssh_target_fits_into_a_host_entry(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?;
    for admin in [false, true] {
        let target = bench.backend().ssh_target(&machine, admin)?;
        let one_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        check!(one_word(&target.host_name), "HostName {:?}", target.host_name);
        check!(one_word(&target.user), "User {:?}", target.user);
        check!(target.options.iter().all(|(name, _)| one_word(name)), "options {:?}", target.options);
        let text = target.proxy_command.iter().chain(target.options.iter().map(|(_, value)| value));
        check!(text.clone().all(|text| !text.contains('\n')), "a line break in {target:?}");
    }
    Ok(())
}
