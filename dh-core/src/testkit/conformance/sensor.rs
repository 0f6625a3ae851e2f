//! What every [`Sensor`] promises, as one list of cases.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::domain::{Activity, Confidence, DetailValue, Reading, Result};
use crate::ports::{Host, Sensor, SensorContext};
use crate::sensor::Sweep;
use crate::testkit::{HostCall, HostFault, RecordedHost, Recording};

/// Long enough for any answer, however busy the machine.
const PATIENT: Duration = Duration::from_secs(30);

/// For sensors that hang on purpose.
const SHORT: Duration = Duration::from_millis(60);

/// A sensor, and hosts of which it is known what it must say.
#[derive(Clone)]
pub struct SensorSubject {
    make: fn() -> Arc<dyn Sensor>,
    active: Recording,
    idle: Recording,
    weird: Option<Recording>,
}

impl SensorSubject {
    /// Takes a sensor's constructor, a host on which it must read active, and one on which it must read idle.
    pub fn new(make: fn() -> Arc<dyn Sensor>, active: Recording, idle: Recording) -> Self {
        Self { make, active, idle, weird: None }
    }

    /// Adds a host whose names are full of control characters. Without it, the case that needs it is skipped, and says so.
    pub fn with_weird(mut self, weird: Recording) -> Self {
        self.weird = Some(weird);
        self
    }
}

impl fmt::Debug for SensorSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SensorSubject").field("sensor", &(self.make)()).finish_non_exhaustive()
    }
}

/// One promise.
struct Case {
    name: &'static str,
    needs_weird: bool,
    run: fn(SensorSubject) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($(#[$needs:ident])? $name:ident,)*) => {
        &[$(Case {
            name: stringify!($name),
            needs_weird: cases!(@ $($needs)?),
            run: |subject| Box::pin($name(subject)),
        },)*]
    };
    (@) => { false };
    (@ needs_weird) => { true };
}

const CASES: &[Case] = cases![
    the_name_is_stable_and_fit_for_a_key,
    use_reads_active,
    no_use_reads_idle,
    every_reading_carries_name_and_axis,
    a_reading_says_why_in_one_line,
    what_was_seen_is_trusted_more_than_low,
    an_empty_host_is_not_active,
    the_same_host_reads_the_same,
    what_changes_is_seen_at_the_next_look,
    a_failed_call_never_reads_idle,
    a_hang_is_cut_off_and_reads_unknown,
    a_hang_delays_no_other_sensor,
    a_sensor_that_still_hangs_is_not_started_again,
    a_panic_reads_unknown,
    a_clock_far_off_does_no_harm,
    a_look_asks_a_bounded_number_of_questions,
    a_reading_survives_json,
    #[needs_weird]
    control_characters_are_escaped,
];

/// Runs every case on a sensor, and panics with the names of those that fail.
///
/// Call it on a runtime whose clock is not paused: threads that hang are part of it.
pub async fn run_sensor_suite(subject: &SensorSubject) {
    let sensor = (subject.make)();
    let sensor = sensor.name();
    let mut failed = Vec::new();
    for case in CASES {
        if case.needs_weird && subject.weird.is_none() {
            eprintln!("skip {sensor} {}: no recorded host with weird names was given", case.name);
            continue;
        }
        match AssertUnwindSafe((case.run)(subject.clone())).catch_unwind().await {
            Ok(()) => eprintln!("ok   {sensor} {}", case.name),
            Err(_) => {
                eprintln!("FAIL {sensor} {}", case.name);
                failed.push(case.name);
            }
        }
    }
    assert!(failed.is_empty(), "{sensor}: {} of {} cases failed: {}", failed.len(), CASES.len(), failed.join(", "));
}

/// Lets go of threads that hang, whether or not the case passed.
struct Recorded(Arc<RecordedHost>);

impl Recorded {
    fn of(recording: &Recording) -> Self {
        Self(Arc::new(RecordedHost::new(recording.clone())))
    }

    fn context(&self, deadline: Duration) -> SensorContext {
        SensorContext { host: self.0.clone() as Arc<dyn Host>, deadline }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl SensorSubject {
    async fn sample(&self, recording: &Recording) -> Result<Reading> {
        (self.make)().sample(&Recorded::of(recording).context(PATIENT)).await
    }

    /// What the agent gets: errors, hangs and panics as readings.
    async fn sweep(&self, recording: &Recording, deadline: Duration) -> Reading {
        let host = Recorded::of(recording);
        Sweep::new(vec![(self.make)()]).run(&host.context(deadline)).await.remove(0)
    }

    /// The calls it makes on a host: each is evidence that it needs there.
    async fn calls(&self, recording: &Recording) -> Vec<HostCall> {
        let host = Recorded::of(recording);
        let _ = (self.make)().sample(&host.context(PATIENT)).await;
        host.0.used().into_iter().collect()
    }
}

async fn the_name_is_stable_and_fit_for_a_key(subject: SensorSubject) {
    let (one, other) = ((subject.make)(), (subject.make)());
    assert!(!one.name().is_empty(), "the name is empty");
    assert!(one.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b)), "{one:?}");
    assert_eq!((one.name(), one.axis()), (other.name(), other.axis()));
}

async fn use_reads_active(subject: SensorSubject) {
    let reading = subject.sample(&subject.active).await.unwrap();
    assert_eq!(reading.activity, Activity::Active, "{reading:?}");
}

async fn no_use_reads_idle(subject: SensorSubject) {
    let reading = subject.sample(&subject.idle).await.unwrap();
    assert_eq!(reading.activity, Activity::Idle, "{reading:?}");
}

async fn every_reading_carries_name_and_axis(subject: SensorSubject) {
    let sensor = (subject.make)();
    for recording in [&subject.active, &subject.idle] {
        let reading = subject.sample(recording).await.unwrap();
        assert_eq!((reading.sensor.as_str(), reading.axis), (sensor.name(), sensor.axis()));
    }
}

async fn a_reading_says_why_in_one_line(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let reading = subject.sample(recording).await.unwrap();
        assert!(!reading.reason.trim().is_empty() && !reading.reason.contains('\n'), "{reading:?}");
    }
}

async fn what_was_seen_is_trusted_more_than_low(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let reading = subject.sample(recording).await.unwrap();
        assert!(reading.confidence > Confidence::Low, "low is for what could not be seen: {reading:?}");
    }
    for call in subject.calls(&subject.idle).await {
        let broken = subject.idle.clone().with_fault(call, HostFault::Error("broken".into()));
        assert_eq!(subject.sweep(&broken, PATIENT).await.confidence, Confidence::Low, "{call:?}");
    }
}

async fn an_empty_host_is_not_active(subject: SensorSubject) {
    let reading = subject.sweep(&Recording::at(subject.idle.now), PATIENT).await;
    assert_ne!(reading.activity, Activity::Active, "{reading:?}");
    assert!(!reading.reason.contains("crashed"), "{reading:?}");
}

async fn the_same_host_reads_the_same(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let host = Recorded::of(recording);
        let sensor = (subject.make)();
        let first = sensor.sample(&host.context(PATIENT)).await.unwrap();
        assert_eq!(sensor.sample(&host.context(PATIENT)).await.unwrap(), first, "by the same sensor");
        assert_eq!(subject.sample(recording).await.unwrap(), first, "by a new one, as after an agent's restart");
    }
}

async fn what_changes_is_seen_at_the_next_look(subject: SensorSubject) {
    let host = Recorded::of(&subject.idle);
    let sweep = Sweep::new(vec![(subject.make)()]);
    for (recording, expected) in [
        (&subject.idle, Activity::Idle),
        (&subject.active, Activity::Active),
        (&subject.idle, Activity::Idle),
        (&subject.active, Activity::Active),
    ] {
        host.0.change(|now| *now = recording.clone());
        let reading = sweep.run(&host.context(PATIENT)).await.remove(0);
        assert_eq!(reading.activity, expected, "{reading:?}");
    }
}

async fn a_failed_call_never_reads_idle(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let calls = subject.calls(recording).await;
        assert!(!calls.is_empty(), "it asks the host nothing");
        for call in calls {
            let broken = recording.clone().with_fault(call, HostFault::Error("permission denied".into()));
            let reading = subject.sweep(&broken, PATIENT).await;
            assert_ne!(reading.activity, Activity::Idle, "{call:?} failed: {reading:?}");
            assert!(
                reading.is_active() || reading.reason.contains("permission denied"),
                "the reason hides what failed: {reading:?}"
            );
        }
    }
}

async fn a_hang_is_cut_off_and_reads_unknown(subject: SensorSubject) {
    for call in subject.calls(&subject.idle).await {
        let hung = subject.idle.clone().with_fault(call, HostFault::Hang);
        let began = Instant::now();
        let reading = subject.sweep(&hung, SHORT).await;
        assert_eq!(reading.activity, Activity::Unknown, "{call:?} hung: {reading:?}");
        assert!(reading.reason.contains("60ms"), "the deadline is not named: {reading:?}");
        assert!(began.elapsed() < PATIENT, "{call:?} was not cut off");
    }
}

async fn a_hang_delays_no_other_sensor(subject: SensorSubject) {
    for call in subject.calls(&subject.idle).await {
        let hung = Recorded::of(&subject.idle.clone().with_fault(call, HostFault::Hang));
        let sweep = Sweep::new(vec![(subject.make)(), Arc::new(Bystander)]);
        let readings = sweep.run(&hung.context(SHORT)).await;
        assert_eq!(readings[1].activity, Activity::Idle, "{call:?}: {readings:?}");
    }
}

async fn a_sensor_that_still_hangs_is_not_started_again(subject: SensorSubject) {
    // Only a call that blocks its thread outlives the deadline; one that waits is ended there.
    let mut calls = subject.calls(&subject.idle).await;
    calls.retain(|call| *call != HostCall::HttpGet);
    let Some(call) = calls.pop() else { return };
    let host = Recorded::of(&subject.idle.clone().with_fault(call, HostFault::Hang));
    let sweep = Sweep::new(vec![(subject.make)()]);
    let count = || host.0.calls().iter().filter(|made| **made == call).count();
    sweep.run(&host.context(SHORT)).await;
    let before = count();
    let reading = sweep.run(&host.context(SHORT)).await.remove(0);
    assert_eq!((reading.activity, count()), (Activity::Unknown, before), "{reading:?}");
    host.0.change(|recording| recording.faults.clear());
    host.0.release();
    let deadline = Instant::now() + PATIENT;
    while sweep.run(&host.context(PATIENT)).await[0].activity != Activity::Idle {
        assert!(Instant::now() < deadline, "it never looked again");
        tokio::task::yield_now().await;
    }
}

async fn a_panic_reads_unknown(subject: SensorSubject) {
    for call in subject.calls(&subject.idle).await {
        let recording = subject.idle.clone().with_fault(call, HostFault::Panic("on purpose".into()));
        let host = Recorded::of(&recording);
        let sweep = Sweep::new(vec![(subject.make)(), Arc::new(Bystander)]);
        let readings = sweep.run(&host.context(PATIENT)).await;
        assert_eq!(readings[0].activity, Activity::Unknown, "{call:?}: {readings:?}");
        assert!(readings[0].reason.contains("on purpose"), "{readings:?}");
        assert_eq!(readings[1].activity, Activity::Idle, "{call:?}: {readings:?}");
        host.0.change(|recording| recording.faults.clear());
        assert_eq!(sweep.run(&host.context(PATIENT)).await[0].activity, Activity::Idle, "it did not come back");
    }
}

async fn a_clock_far_off_does_no_harm(subject: SensorSubject) {
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        for recording in [&subject.active, &subject.idle] {
            let reading = subject.sweep(&recording.clone().with_now(now), PATIENT).await;
            assert!(!reading.reason.contains("crashed"), "at {now}: {reading:?}");
        }
    }
}

async fn a_look_asks_a_bounded_number_of_questions(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let host = Recorded::of(recording);
        let _ = (subject.make)().sample(&host.context(PATIENT)).await;
        let calls = host.0.calls();
        let allowed = 8 + recording.last_input.len() + recording.container_sockets.len();
        assert!(calls.len() <= allowed, "{} questions: {calls:?}", calls.len());
    }
}

async fn a_reading_survives_json(subject: SensorSubject) {
    for recording in [&subject.active, &subject.idle] {
        let reading = subject.sample(recording).await.unwrap();
        let json = serde_json::to_string(&reading).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&json).unwrap(), reading);
    }
}

async fn control_characters_are_escaped(subject: SensorSubject) {
    let Some(weird) = &subject.weird else { return };
    let text = match subject.sample(weird).await {
        Ok(reading) => shown(&reading),
        Err(error) => error.full_message(),
    };
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.contains('\\'), "nothing of the weird names is shown: {text:?}");
}

/// Everything of a reading that may reach a terminal.
fn shown(reading: &Reading) -> String {
    let mut text = reading.reason.clone();
    for (key, value) in reading.details.iter() {
        text.push_str(key);
        match value {
            DetailValue::Number(_) => {}
            DetailValue::Text(value) => text.push_str(value),
            DetailValue::List(lines) => text.push_str(&lines.concat()),
        }
    }
    text
}

/// A sensor that asks nothing and sees nothing.
#[derive(Debug)]
struct Bystander;

#[async_trait::async_trait]
impl Sensor for Bystander {
    fn name(&self) -> &str {
        "bystander"
    }

    fn axis(&self) -> crate::domain::Axis {
        crate::domain::Axis::Work
    }

    async fn sample(&self, _: &SensorContext) -> Result<Reading> {
        Ok(Reading::new(self.name(), Activity::Idle, Confidence::High, self.axis(), "nothing to see"))
    }
}
