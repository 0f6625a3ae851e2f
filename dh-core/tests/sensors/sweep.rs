//! All sensors at once.

use std::sync::Arc;
use std::time::Duration;

use dh_core::domain::Activity;
use dh_core::ports::{Host, SensorContext};
use dh_core::sensor::{Sweep, stock};
use dh_core::testkit::{HostCall, HostFault, RecordedHost};

use crate::support::{context, recording};

#[tokio::test]
async fn readings_come_in_display_order() {
    let host = Arc::new(RecordedHost::new(recording("ssh-active")));
    let readings = Sweep::new(stock()).run(&context(host)).await;
    let names: Vec<&str> = readings.iter().map(|reading| reading.sensor.as_str()).collect();
    assert_eq!(names, ["ssh", "ide", "docker", "coffee"]);
}

#[tokio::test]
async fn the_sensors_of_one_sweep_share_one_look_at_the_processes() {
    let host = Arc::new(RecordedHost::new(recording("ssh-idle")));
    let sweep = Sweep::new(stock());
    for looks in 1..=2 {
        sweep.run(&context(host.clone())).await;
        let made = host.calls().iter().filter(|call| **call == HostCall::Processes).count();
        assert_eq!(made, looks, "one a sweep, and a new one at the next");
    }
}

#[tokio::test]
async fn an_unreadable_proc_blinds_those_that_need_it_and_no_other() {
    let recording =
        recording("coffee-active").with_fault(HostCall::Processes, HostFault::Error("no \u{1b}[31m".into()));
    let readings = Sweep::new(stock()).run(&context(Arc::new(RecordedHost::new(recording)))).await;
    let activities: Vec<Activity> = readings.iter().map(|reading| reading.activity).collect();
    assert_eq!(activities, [Activity::Unknown, Activity::Unknown, Activity::Unknown, Activity::Active]);
    assert_eq!(readings[0].reason, "no \\u{1b}[31m");
}

#[tokio::test]
async fn a_sensor_past_its_deadline_names_it() {
    let recording = recording("docker-idle").with_fault(HostCall::HttpGet, HostFault::Hang);
    let context = SensorContext {
        host: Arc::new(RecordedHost::new(recording)) as Arc<dyn Host>,
        deadline: Duration::from_millis(50),
    };
    let readings = Sweep::new(stock()).run(&context).await;
    assert_eq!(readings[2].reason, "no answer within 50ms");
    assert!(readings.iter().filter(|reading| reading.activity == Activity::Unknown).count() == 1, "{readings:?}");
}
