//! Every promise of a sensor, kept by every stock sensor.

use std::collections::BTreeSet;
use std::sync::Arc;

use dh_core::ports::Sensor;
use dh_core::sensor::{CoffeeSensor, DockerSensor, IdeSensor, SshSensor, stock};
use dh_core::testkit::conformance::sensor::{SensorSubject, run_sensor_suite};

use crate::support::recording;

type Make = fn() -> Arc<dyn Sensor>;

/// Every stock sensor; its recorded hosts bear its name.
const SUBJECTS: &[(&str, Make)] = &[
    ("ssh", || Arc::new(SshSensor)),
    ("ide", || Arc::new(IdeSensor)),
    ("docker", || Arc::new(DockerSensor)),
    ("coffee", || Arc::new(CoffeeSensor)),
];

#[test]
fn no_stock_sensor_escapes_the_suite() {
    let stock: BTreeSet<String> = stock().iter().map(|sensor| sensor.name().to_owned()).collect();
    assert_eq!(stock, SUBJECTS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

async fn conforms(name: &str) {
    let (_, make) = SUBJECTS.iter().find(|(subject, _)| *subject == name).unwrap();
    let host = |kind: &str| recording(&format!("{name}-{kind}"));
    run_sensor_suite(&SensorSubject::new(*make, host("active"), host("idle")).with_weird(host("weird"))).await;
}

#[tokio::test]
async fn ssh_conforms() {
    conforms("ssh").await;
}

#[tokio::test]
async fn ide_conforms() {
    conforms("ide").await;
}

#[tokio::test]
async fn docker_conforms() {
    conforms("docker").await;
}

#[tokio::test]
async fn coffee_conforms() {
    conforms("coffee").await;
}
