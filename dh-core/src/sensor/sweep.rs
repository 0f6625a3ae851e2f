//! One look of all sensors at once, each cut off at the deadline.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::text::plain;
use super::{CoffeeSensor, DockerSensor, IdeSensor, SshSensor};
use crate::domain::{DetailValue, Error, Reading, Result, StoredError, describe_duration};
use crate::ports::{
    BootTime, ContainerSocket, Host, HttpAnswer, HttpTarget, Login, Process, Sensor, SensorContext, TcpConnection,
};

/// How much longer than its deadline a sensor that does not yield is waited for: by then one that waits has been ended.
const GRACE: Duration = Duration::from_millis(100);

/// Returns the sensors of every engine, in display order: `ssh`, `ide`, `docker`, `coffee`.
pub fn stock() -> Vec<Arc<dyn Sensor>> {
    vec![Arc::new(SshSensor), Arc::new(IdeSensor), Arc::new(DockerSensor), Arc::new(CoffeeSensor)]
}

/// Runs a set of sensors side by side, again and again.
///
/// Each has a thread of its own while it looks, for what it reads may block: a filesystem that hangs, a device. One that
/// is past its deadline reads unknown and delays no other; while it still hangs it is not started a second time, so that
/// it costs one thread at most. An error and a panic read unknown too.
///
/// All sensors of one sweep see the same processes, connections and logins: they are read once, when first asked for. A
/// sensor that asks again wants to know what has changed, and gets a new look.
#[derive(Debug)]
pub struct Sweep {
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    sensor: Arc<dyn Sensor>,
    busy: Arc<AtomicBool>,
}

impl Sweep {
    /// Makes a sweep of these sensors.
    pub fn new(sensors: Vec<Arc<dyn Sensor>>) -> Self {
        Self { lanes: sensors.into_iter().map(|sensor| Lane { sensor, busy: Arc::default() }).collect() }
    }

    /// Looks once with every sensor. The readings come in the order of the sensors, one each, within the deadline.
    ///
    /// Must be called within a Tokio runtime that has its timers on. A runtime that ends waits for threads that hang:
    /// end it with `shutdown_background`.
    pub async fn run(&self, context: &SensorContext) -> Vec<Reading> {
        let shared = Arc::new(Shared::new(context.host.clone()));
        join_all(self.lanes.iter().map(|lane| lane.look(&shared, context.deadline))).await
    }
}

impl Lane {
    async fn look(&self, shared: &Arc<Shared>, deadline: Duration) -> Reading {
        let unknown = |why: String| Reading::unknown(self.sensor.name(), self.sensor.axis(), plain(&why));
        let late = || unknown(format!("no answer within {}", shown(deadline)));
        let Some(answer) = self.start(shared, deadline) else {
            return unknown(format!("still hangs in an earlier look that had {}", shown(deadline)));
        };
        match timeout(deadline + GRACE, answer).await {
            Ok(Ok(Ok(reading))) => self.fit(reading),
            Ok(Ok(Err(Failure::Late))) | Err(_) => late(),
            Ok(Ok(Err(Failure::Error(error)))) => {
                let reading = unknown(error.full_message());
                match error.hint() {
                    Some(hint) => reading.with_detail("hint", plain(hint)),
                    None => reading,
                }
            }
            Ok(Ok(Err(Failure::Panic(message)))) => unknown(format!("the sensor crashed: {message}")),
            Ok(Err(_)) => unknown("the sensor crashed".to_owned()),
        }
    }

    /// Starts a look on a thread of its own; nothing when the last one is still at it.
    fn start(&self, shared: &Arc<Shared>, deadline: Duration) -> Option<oneshot::Receiver<Result<Reading, Failure>>> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let (tell, answer) = oneshot::channel();
        let (sensor, busy) = (self.sensor.clone(), self.busy.clone());
        let context = SensorContext { host: Arc::new(View::of(shared)), deadline };
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let look =
                AssertUnwindSafe(|| runtime.block_on(async { timeout(deadline, sensor.sample(&context)).await }));
            let outcome = match catch_unwind(look) {
                Ok(Ok(Ok(reading))) => Ok(reading),
                Ok(Ok(Err(error))) => Err(Failure::Error(error)),
                Ok(Err(_)) => Err(Failure::Late),
                Err(panic) => Err(Failure::Panic(message(&*panic))),
            };
            // Free before the answer is out: the next sweep may follow at once.
            busy.store(false, Ordering::Release);
            // Nobody waits any more when it comes too late.
            let _ = tell.send(outcome);
        });
        Some(answer)
    }

    /// Sees that a reading is its sensor's, and that nothing in it can do a terminal harm.
    fn fit(&self, mut reading: Reading) -> Reading {
        reading.sensor = self.sensor.name().to_owned();
        reading.axis = self.sensor.axis();
        reading.reason = plain(&reading.reason);
        let details = std::mem::take(&mut reading.details);
        details.iter().fold(reading, |reading, (key, value)| {
            let value = match value {
                DetailValue::Number(number) => DetailValue::Number(*number),
                DetailValue::Text(text) => DetailValue::Text(plain(text)),
                DetailValue::List(list) => DetailValue::List(list.iter().map(|line| plain(line)).collect()),
            };
            reading.with_detail(&plain(key), value)
        })
    }
}

enum Failure {
    Late,
    Error(Error),
    Panic(String),
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn shown(deadline: Duration) -> String {
    if deadline.subsec_nanos() == 0 { describe_duration(deadline) } else { format!("{deadline:?}") }
}

type Answer<T> = OnceLock<Result<T, StoredError>>;

/// What the host said first, for all sensors of one sweep.
#[derive(Debug)]
struct Shared {
    host: Arc<dyn Host>,
    now: Timestamp,
    processes: Answer<Vec<Process>>,
    connections: Answer<Vec<TcpConnection>>,
    logins: Answer<Vec<Login>>,
}

impl Shared {
    fn new(host: Arc<dyn Host>) -> Self {
        let now = host.now();
        Self { host, now, processes: OnceLock::new(), connections: OnceLock::new(), logins: OnceLock::new() }
    }
}

/// One sensor's view of it.
#[derive(Debug)]
struct View {
    shared: Arc<Shared>,
    processes: AtomicBool,
    connections: AtomicBool,
    logins: AtomicBool,
}

impl View {
    fn of(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            processes: AtomicBool::default(),
            connections: AtomicBool::default(),
            logins: AtomicBool::default(),
        }
    }
}

/// Returns the shared answer the first time and a new one after.
fn first<T: Clone>(asked: &AtomicBool, shared: &Answer<T>, ask: impl Fn() -> Result<T>) -> Result<T> {
    if asked.swap(true, Ordering::Relaxed) {
        return ask();
    }
    shared.get_or_init(|| ask().map_err(|error| StoredError::from(&error))).clone().map_err(Error::from)
}

#[async_trait]
impl Host for View {
    fn now(&self) -> Timestamp {
        self.shared.now
    }

    fn boot(&self) -> Option<BootTime> {
        self.shared.host.boot()
    }

    fn processes(&self) -> Result<Vec<Process>> {
        first(&self.processes, &self.shared.processes, || self.shared.host.processes())
    }

    fn connections(&self) -> Result<Vec<TcpConnection>> {
        first(&self.connections, &self.shared.connections, || self.shared.host.connections())
    }

    fn logins(&self) -> Result<Vec<Login>> {
        first(&self.logins, &self.shared.logins, || self.shared.host.logins())
    }

    fn last_input(&self, tty: &str) -> Result<Option<Timestamp>> {
        self.shared.host.last_input(tty)
    }

    fn container_sockets(&self) -> Result<Vec<ContainerSocket>> {
        self.shared.host.container_sockets()
    }

    fn coffee_lock(&self) -> Result<Option<String>> {
        self.shared.host.coffee_lock()
    }

    async fn http_get(&self, target: &HttpTarget, path: &str) -> Result<Option<HttpAnswer>> {
        self.shared.host.http_get(target, path).await
    }
}
