//! What the tests of sensors share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::domain::{DetailValue, Reading, Result};
use dh_core::ports::{Host, Sensor, SensorContext};
use dh_core::testkit::{RecordedHost, Recording};

/// Long enough for a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a recorded host by its file's name.
pub fn recording(name: &str) -> Recording {
    let path = format!("{}/tests/hosts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Recording::from_json(&json).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn context(host: Arc<dyn Host>) -> SensorContext {
    SensorContext { host, deadline: PATIENCE }
}

/// Samples a sensor on a recorded host.
pub async fn sample(sensor: impl Sensor, recording: Recording) -> Result<Reading> {
    sensor.sample(&context(Arc::new(RecordedHost::new(recording)))).await
}

/// Returns the lines of a detail; none when it is absent.
pub fn lines(reading: &Reading, key: &str) -> Vec<String> {
    match reading.details.get(key) {
        Some(DetailValue::List(lines)) => lines.clone(),
        None => Vec::new(),
        Some(other) => panic!("{key} is no list: {other:?}"),
    }
}

/// Looks again and again until it sees what it waits for; panics with the last look when that never comes.
pub async fn until<T: std::fmt::Debug>(what: &str, mut look: impl AsyncFnMut() -> T, seen: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = look().await;
        if seen(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come; last seen: {value:?}");
        tokio::task::yield_now().await;
    }
}
