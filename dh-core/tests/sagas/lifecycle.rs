//! What operations do, and refuse to do.

use std::sync::Arc;

use dh_core::domain::*;
use dh_core::logic::InProcess;
use dh_core::ports::*;
use dh_core::testkit::scaffold::{Saga, engine, user};
use dh_core::testkit::{Call, FaultKind, RecordingSink};

use crate::fake::{Fake, fake};

fn control(fake: &Fake) -> InProcess {
    InProcess::new(fake.world.deps.clone())
}

async fn submit(fake: &Fake, spec: OperationSpec) -> Result<Operation> {
    control(fake).submit(spec, SubmitOptions::default(), Arc::new(NoProgress)).await
}

async fn run(fake: &Fake, spec: OperationSpec) -> Result<Operation> {
    let operation = submit(fake, spec).await?;
    control(fake).run(&operation.id, Arc::new(NoProgress)).await
}

fn launch(name: &str) -> OperationSpec {
    OperationSpec::Launch {
        engine: EngineName::new(name).unwrap(),
        user: user(),
        engine_type: "cpu".into(),
        boot_disk_gb: None,
        policy: IdlePolicy::default(),
    }
}

async fn attached(fake: &Fake) {
    for saga in [Saga::Launch, Saga::CreateStudio, Saga::Attach] {
        fake.world.run(saga).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_tells_its_nine_stages_and_ends_at_100_percent() {
    let fake = fake();
    let sink = Arc::new(RecordingSink::new());
    let operation = submit(&fake, launch("train")).await.unwrap();
    control(&fake).run(&operation.id, sink.clone()).await.unwrap();
    let over: Vec<String> = sink
        .bodies()
        .into_iter()
        .filter_map(|body| match body {
            ProgressBody::Stage { name, status: StageStatus::Completed | StageStatus::Skipped, .. } => Some(name),
            _ => None,
        })
        .collect();
    assert_eq!(over, StageName::ALL.map(|stage| stage.as_str().to_owned()));
    let events = sink.events();
    assert!(events.windows(2).all(|pair| pair[0].percent <= pair[1].percent), "a bar that goes back");
    assert_eq!(events.last().unwrap().percent, 100);
}

#[tokio::test(start_paused = true)]
async fn the_second_launch_knows_how_long_it_will_take() {
    let fake = fake();
    run(&fake, launch("first")).await.unwrap();
    let sink = Arc::new(RecordingSink::new());
    let operation = submit(&fake, launch("second")).await.unwrap();
    control(&fake).run(&operation.id, sink.clone()).await.unwrap();
    let events = sink.events();
    let promised = events[0].remaining.expect("learned");
    let took = events.last().unwrap().elapsed;
    assert!(promised.abs_diff(took) < took / 4, "promised {promised:?}, took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn fifty_racing_attaches_have_one_winner_and_forty_nine_are_told_who_has_it() {
    let fake = fake();
    fake.world.run(Saga::CreateStudio).await.unwrap();
    for n in 0..5 {
        run(&fake, launch(&format!("engine-{n}"))).await.unwrap();
    }
    let racers = (0..50).map(|n| {
        let fake = fake.clone();
        async move {
            let engine = EngineName::new(format!("engine-{}", n % 5)).unwrap();
            run(&fake, OperationSpec::Attach { user: user(), engine }).await
        }
    });
    let outcomes = futures::future::join_all(racers).await;
    let losers: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(losers.len(), 49);
    for error in losers {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let said = error.full_message();
        assert!(said.starts_with("studio is not available") && said.contains("engine-"), "{said}");
    }
    fake.world.assert_sound("the race").await;
}

#[tokio::test(start_paused = true)]
async fn one_name_is_one_engine_however_many_launch_it() {
    let fake = fake();
    let racers = (0..20).map(|_| run(&fake, launch("train")));
    let outcomes = futures::future::join_all(racers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
    }
    fake.world.assert_sound("the race").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_after_the_effect_never_launches_twice() {
    for (call, saga) in [
        (Call::LaunchMachine, Saga::Launch),
        (Call::CreateVolume, Saga::CreateStudio),
        (Call::AttachVolume, Saga::Attach),
        (Call::AgentMount, Saga::Attach),
        (Call::DetachVolume, Saga::Detach),
        (Call::AgentUnmount, Saga::Detach),
        (Call::StopMachine, Saga::Stop),
        (Call::StartMachine, Saga::Start),
        (Call::TerminateMachine, Saga::Terminate),
        (Call::DeleteVolume, Saga::DeleteStudio),
        (Call::GrowVolume, Saga::ResizeStudio),
        (Call::ResizeBootDisk, Saga::ResizeEngine),
    ] {
        let fake = fake();
        saga.prepare(&fake.world).await.unwrap();
        fake.backend.fail_next(call, FaultKind::After(Error::new(ErrorKind::Timeout, "no answer")));
        fake.world.run(saga).await.unwrap_or_else(|error| panic!("{call:?}: {error:?}"));
        assert_eq!(fake.backend.faults().pending(), 0, "{call:?} was never called");
        fake.world.assert_sound(&format!("{call:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_capacity_is_told_at_once_and_leaves_nothing() {
    let fake = fake();
    fake.backend
        .fail_next(Call::LaunchMachine, FaultKind::Before(Error::new(ErrorKind::Capacity, "no machine of that type")));
    let error = run(&fake, launch("train")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(fake.backend.count(Call::LaunchMachine), 1);
    assert!(fake.world.deps.store.load_all::<Engine>(&fake.world.deps.settings.environment).await.unwrap().is_empty());
    fake.world.assert_sound("no capacity").await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_stage_fails_the_launch_and_keeps_the_engine_for_debug() {
    let fake = fake();
    fake.backend.fail_stage(StageName::InstallingPackages, "setup script: exit code 7", &["pip: no such package"]);
    let error = run(&fake, launch("bench")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.full_message().contains("installing_packages"), "{error:?}");
    assert!(error.hint().unwrap().contains("dh engine debug bench"));
    let view = control(&fake).engine("bench").await.unwrap();
    assert_eq!(view.state, EngineState::Failed);
    assert_eq!(view.engine.bootstrap.failed().unwrap().log_tail, ["pip: no such package"]);
    fake.world.run(Saga::Terminate).await.unwrap();
    assert!(fake.backend.leaks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn stop_and_terminate_refuse_while_a_studio_is_attached_and_detach_it_when_told() {
    for saga in [Saga::Stop, Saga::Terminate, Saga::ResizeEngine] {
        let fake = fake();
        attached(&fake).await;
        let error = fake.world.run(saga).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.hint().unwrap().contains("dh studio detach"));
        let options = SubmitOptions { detach_studios: true };
        let operation = control(&fake).submit(saga.spec(&fake.world), options, Arc::new(NoProgress)).await.unwrap();
        control(&fake).run(&operation.id, Arc::new(NoProgress)).await.unwrap();
        assert_eq!(fake.world.studio().await.unwrap().unwrap().status, StudioStatus::Available);
        fake.world.assert_sound("detached first").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_detach_refused_for_open_files_leaves_the_studio_attached() {
    let fake = fake();
    attached(&fake).await;
    let volume = fake.world.studio().await.unwrap().unwrap().volume.unwrap();
    fake.backend.hold_open(&volume, "python (pid 42)").unwrap();
    let error = fake.world.run(Saga::Detach).await.unwrap_err();
    assert!(error.full_message().contains("python (pid 42)"), "{error:?}");
    assert_eq!(fake.world.studio().await.unwrap().unwrap().status, StudioStatus::Attached);
    fake.world.assert_sound("open files").await;
    fake.backend.release(&volume);
    fake.world.run(Saga::Detach).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_tells_which_studios_are_not_there_and_a_detach_settles_it() {
    let fake = fake();
    attached(&fake).await;
    let studio = fake.world.studio().await.unwrap().unwrap();
    let problem = format!("the studio of {} ({}) is not mounted: e2fsck gave up", studio.user, studio.volume.unwrap());
    fake.backend.set_start_problems(&[&problem]);
    let machine = fake.world.engine().await.unwrap().unwrap().machine.unwrap();
    fake.backend.stop_by_agent(&machine, StopMode::Stop, "idle").unwrap();
    let told = Arc::new(RecordingSink::new());
    let start = submit(&fake, OperationSpec::Start { engine: engine() }).await.unwrap();
    control(&fake).run(&start.id, told.clone()).await.unwrap();
    let note = format!("⚠ {problem}");
    let is_note = |body: &ProgressBody| matches!(body, ProgressBody::Note { message } if *message == note);
    assert_eq!(told.bodies().iter().filter(|body| is_note(body)).count(), 1, "{:?}", told.bodies());
    assert_eq!(fake.world.engine().await.unwrap().unwrap().problems, [problem.as_str()]);

    let again = submit(&fake, OperationSpec::Attach { user: user(), engine: engine() }).await.unwrap_err();
    assert!(again.hint().unwrap().contains("dh studio detach, then dh studio attach bench"), "{again:?}");
    fake.world.run(Saga::Detach).await.unwrap();
    assert!(fake.world.engine().await.unwrap().unwrap().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_eleventh_studio_is_refused() {
    let fake = fake();
    fake.world.run(Saga::Launch).await.unwrap();
    for n in 0..11 {
        let user = UserName::new(format!("user-{n}")).unwrap();
        run(&fake, OperationSpec::CreateStudio { user: user.clone(), size_gb: SizeGb::new(1).unwrap() }).await.unwrap();
        let outcome = run(&fake, OperationSpec::Attach { user, engine: engine() }).await;
        match n {
            10 => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::QuotaExceeded),
            _ => drop(outcome.unwrap()),
        }
    }
    fake.world.assert_sound("eleven studios").await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_operation_waits_and_the_same_command_goes_on_with_it() {
    let fake = fake();
    let operation = submit(&fake, launch("train")).await.unwrap();
    control(&fake).pause(&operation.id).await.unwrap();
    assert!(control(&fake).interrupted().await.unwrap().is_empty(), "picked up though somebody paused it");
    let again = submit(&fake, launch("train")).await.unwrap();
    // Nothing had been reserved yet, so this is a new operation; the paused one then finds the name taken.
    control(&fake).run(&again.id, Arc::new(NoProgress)).await.unwrap();
    let late = control(&fake).run(&operation.id, Arc::new(NoProgress)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyExists);
    fake.world.assert_sound("paused").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_command_goes_on_with_an_operation_whose_process_died() {
    let fake = fake();
    Saga::Attach.prepare(&fake.world).await.unwrap();
    let (world, _) = fake.process(200);
    fake.backend.faults().fail_nth(&[Call::AgentMount], 1, FaultKind::HangAfter);
    assert!(fake.backend.faults().until_hung(world.run(Saga::Attach)).await.is_none());
    fake.process(201);
    let before = control(&fake).operations(OperationQuery::default()).await.unwrap().len();
    fake.world.run(Saga::Attach).await.unwrap();
    assert_eq!(
        control(&fake).operations(OperationQuery::default()).await.unwrap().len(),
        before,
        "a second attach was made"
    );
    fake.world.assert_data_intact("carried on").await;
}

#[tokio::test(start_paused = true)]
async fn a_command_after_a_died_attach_finishes_it_first() {
    let fake = fake();
    Saga::Attach.prepare(&fake.world).await.unwrap();
    let (world, _) = fake.process(200);
    fake.backend.faults().fail_nth(&[Call::AttachVolume], 1, FaultKind::HangAfter);
    assert!(fake.backend.faults().until_hung(world.run(Saga::Attach)).await.is_none());
    fake.process(201);
    fake.world.run(Saga::Detach).await.unwrap();
    assert_eq!(fake.world.studio().await.unwrap().unwrap().status, StudioStatus::Available);
    fake.world.assert_sound("finished first").await;
}

#[tokio::test(start_paused = true)]
async fn cancel_undoes_what_was_done() {
    let fake = fake();
    let (world, _) = fake.process(300);
    fake.backend.faults().fail_nth(&[Call::LaunchMachine], 1, FaultKind::HangAfter);
    assert!(fake.backend.faults().until_hung(world.run(Saga::Launch)).await.is_none());
    fake.process(301);
    let open = control(&fake).interrupted().await.unwrap();
    let cancelled = control(&fake).cancel(&open[0].id, Arc::new(NoProgress)).await.unwrap();
    assert_eq!(cancelled.status, OperationStatus::Cancelled);
    fake.world.assert_sound("cancelled").await;
    assert!(fake.backend.leaks().is_empty());
    let again = control(&fake).cancel(&open[0].id, Arc::new(NoProgress)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_engine_shows_why() {
    let fake = fake();
    fake.world.run(Saga::Launch).await.unwrap();
    let machine = fake.world.engine().await.unwrap().unwrap().machine.unwrap();
    fake.backend.stop_by_agent(&machine, StopMode::Stop, "idle for 30 minutes").unwrap();
    let view = loop {
        let view = control(&fake).engine("bench").await.unwrap();
        if view.state == EngineState::Stopped {
            break view;
        }
        assert_eq!(view.state, EngineState::Stopping);
        fake.clock.sleep(std::time::Duration::from_secs(1)).await;
    };
    assert_eq!(view.state_reason.unwrap().message, "idle for 30 minutes");
    fake.world.run(Saga::Start).await.unwrap();
    assert_eq!(control(&fake).engine("bench").await.unwrap().state, EngineState::Running);
}

#[tokio::test(start_paused = true)]
async fn an_engine_terminated_behind_our_back_is_told_and_can_be_removed() {
    let fake = fake();
    attached(&fake).await;
    let machine = fake.world.engine().await.unwrap().unwrap().machine.unwrap();
    fake.backend.lose_machine(&machine).unwrap();
    assert_eq!(control(&fake).engine("bench").await.unwrap().state, EngineState::Failed);
    fake.world.run(Saga::Detach).await.unwrap();
    fake.world.run(Saga::Terminate).await.unwrap();
    fake.world.assert_sound("terminated behind our back").await;
}

#[tokio::test(start_paused = true)]
async fn unknown_names_bring_the_nearest() {
    let fake = fake();
    run(&fake, launch("alice-training")).await.unwrap();
    let error = control(&fake).engine("alice-trainig").await.unwrap_err();
    assert_eq!((error.kind(), error.hint().unwrap()), (ErrorKind::NotFound, "did you mean alice-training?"));
    let by_id = fake.world.deps.backend.list_machines(control(&fake).environment()).await.unwrap().remove(0).id;
    assert_eq!(control(&fake).engine(by_id.as_str()).await.unwrap().engine.name.as_str(), "alice-training");
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_are_refused_before_anything_is_stored() {
    let fake = fake();
    attached(&fake).await;
    let size = |gb| SizeGb::new(gb).unwrap();
    let cases = [
        (launch("bench"), ErrorKind::AlreadyExists),
        (
            match launch("other") {
                OperationSpec::Launch { engine, user, boot_disk_gb, policy, .. } => {
                    OperationSpec::Launch { engine, user, boot_disk_gb, policy, engine_type: "h100".into() }
                }
                other => other,
            },
            ErrorKind::InvalidArgument,
        ),
        (OperationSpec::Start { engine: EngineName::new("nobody").unwrap() }, ErrorKind::NotFound),
        (OperationSpec::ResizeEngine { engine: engine(), size_gb: size(1), online: true }, ErrorKind::InvalidArgument),
        (OperationSpec::CreateStudio { user: user(), size_gb: size(1) }, ErrorKind::AlreadyExists),
        (OperationSpec::ResizeStudio { user: user(), size_gb: size(9) }, ErrorKind::Conflict),
        (OperationSpec::DeleteStudio { user: user() }, ErrorKind::Conflict),
        (OperationSpec::ResetStudio { user: user() }, ErrorKind::Conflict),
        (OperationSpec::Attach { user: user(), engine: engine() }, ErrorKind::Conflict),
        (OperationSpec::Detach { user: UserName::new("bob").unwrap() }, ErrorKind::NotFound),
    ];
    let before = control(&fake).operations(OperationQuery::default()).await.unwrap().len();
    for (spec, kind) in cases {
        let error = submit(&fake, spec.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{spec:?}: {error:?}");
        assert!(error.hint().is_some(), "{spec:?} has no next step");
    }
    assert_eq!(control(&fake).operations(OperationQuery::default()).await.unwrap().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_waits_is_cancelled_from_another_process_without_waiting_for_its_end() {
    let fake = fake();
    let operation = submit(&fake, launch("train")).await.unwrap();
    let mut slow = dh_core::testkit::Latencies::default();
    slow.stages.insert(StageName::InstallingPackages, std::time::Duration::from_secs(500));
    fake.backend.set_latencies(slow);
    let here = control(&fake);
    let there = control(&fake);
    let (ran, cancelled) = tokio::join!(here.run(&operation.id, Arc::new(NoProgress)), async {
        fake.clock.sleep(std::time::Duration::from_secs(60)).await;
        there.cancel(&operation.id, Arc::new(NoProgress)).await
    });
    assert_eq!(ran.unwrap().status, OperationStatus::Cancelled);
    assert_eq!(cancelled.unwrap().status, OperationStatus::Cancelled);
    assert!(fake.backend.leaks().is_empty());
    fake.world.assert_sound("cancelled while it waits").await;
}

#[tokio::test(start_paused = true)]
async fn terminating_an_engine_whose_launch_was_interrupted_undoes_the_launch_and_is_done() {
    let fake = fake();
    let (world, _) = fake.process(400);
    fake.backend.faults().fail_nth(&[Call::LaunchMachine], 1, FaultKind::HangAfter);
    assert!(fake.backend.faults().until_hung(world.run(Saga::Launch)).await.is_none());
    fake.process(401);
    fake.world.run(Saga::Terminate).await.unwrap();
    assert!(fake.backend.leaks().is_empty());
    fake.world.assert_sound("terminated").await;
}

#[tokio::test(start_paused = true)]
async fn a_command_waits_for_the_process_that_carries_on_with_what_is_in_its_way() {
    let fake = fake();
    Saga::Attach.prepare(&fake.world).await.unwrap();
    let (world, _) = fake.process(500);
    fake.backend.faults().fail_nth(&[Call::AttachVolume], 1, FaultKind::HangAfter);
    assert!(fake.backend.faults().until_hung(world.run(Saga::Attach)).await.is_none());
    fake.process(501);
    let left = control(&fake).interrupted().await.unwrap();
    let worker = control(&fake);
    let (carried_on, detached) = tokio::join!(worker.run(&left[0].id, Arc::new(NoProgress)), async {
        fake.clock.sleep(std::time::Duration::from_millis(100)).await;
        fake.world.run(Saga::Detach).await
    });
    carried_on.unwrap();
    detached.unwrap();
    assert_eq!(fake.world.studio().await.unwrap().unwrap().status, StudioStatus::Available);
}

#[tokio::test(start_paused = true)]
async fn an_operation_left_open_by_a_full_disk_is_named_with_how_to_go_on() {
    let fake = fake();
    fake.world.run(Saga::Launch).await.unwrap();
    let full = || Error::new(ErrorKind::Storage, "the disk is full");
    let operation = submit(&fake, launch("second")).await.unwrap();
    let (world, store) = fake.process(600);
    store.faults().fail_nth(&[dh_core::testkit::StoreCall::Put], 4, FaultKind::Before(full()));
    let error = InProcess::new(world.deps).run(&operation.id, Arc::new(NoProgress)).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("dh ops resume {}", operation.id)) && hint.contains("dh ops cancel"), "{hint}");
    control(&fake).run(&operation.id, Arc::new(NoProgress)).await.unwrap();
    fake.world.assert_sound("resumed").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_command_goes_on_with_an_operation_that_had_not_taken_hold_of_anything_yet() {
    let fake = fake();
    Saga::Attach.prepare(&fake.world).await.unwrap();
    let spec = Saga::Attach.spec(&fake.world);
    let left = submit(&fake, spec.clone()).await.unwrap();
    fake.process(700);
    assert_eq!(submit(&fake, spec).await.unwrap().id, left.id);
}
