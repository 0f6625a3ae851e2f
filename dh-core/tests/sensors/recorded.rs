//! What each sensor says of hosts that were written down.

use dh_core::domain::{Activity, Confidence, DetailValue};
use dh_core::ports::{BootTime, HttpTarget, TcpConnection};
use dh_core::sensor::{CoffeeLock, CoffeeSensor, DockerSensor, IdeSensor, SshSensor};
use dh_core::testkit::{HostCall, HostFault, RecordedHttp, Recording};
use serde_json::json;

use crate::support::{lines, recording, sample};

#[tokio::test]
async fn each_way_to_be_connected_is_one_session() {
    let reading = sample(SshSensor, recording("ssh-active")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.confidence), ("5 SSH session(s)", Confidence::High));
    assert_eq!(
        lines(&reading, "sessions"),
        [
            "alice pts/0 2026-03-02 09:00 00:02 801 (192.0.2.6)",
            "rootbeer notty 2026-03-02 11:00 ? 811 (192.0.2.7)",
            "root forward 2026-03-02 11:30 ? 820 (192.0.2.8)",
            "alice pts/3 2026-03-02 11:40 . 830 (dh: bash)",
            "alice exec 2026-03-02 11:50 ? 840 (dh: python3)",
        ]
    );
    assert_eq!(lines(&reading, "ignored"), ["alice pts/1 (terminal multiplexer)"]);
    assert_eq!(reading.details.get("last_input_seconds"), None, "a copy has no terminal to be silent on");
}

#[tokio::test]
async fn nobody_connected_reads_as_the_clients_know_it() {
    let reading = sample(SshSensor, recording("ssh-idle")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.activity), ("No active SSH sessions", Activity::Idle));
}

#[tokio::test]
async fn a_forgotten_session_shows_for_how_long_it_is_silent() {
    let mut host = recording("ssh-active");
    host.processes.retain(|process| matches!(process.pid, 700 | 800..=802));
    host.last_input.insert("pts/0".into(), "2026-02-28T12:00:00Z".parse().unwrap());
    let reading = sample(SshSensor, host).await.unwrap();
    assert_eq!(reading.reason, "1 SSH session(s)");
    assert!(lines(&reading, "sessions")[0].contains(" old "), "{reading:?}");
    assert_eq!(reading.details.get("last_input_seconds"), Some(&DetailValue::Number(172_800.0)));
}

#[tokio::test]
async fn user_names_that_merely_begin_like_a_system_users_are_users() {
    for (user, sessions) in [("nobody", 0), ("nobody2", 1), ("gdm", 0), ("gdmitri", 1), ("root", 1), ("rootbeer", 1)] {
        let mut host = Recording::at(recording("ssh-active").now);
        host.processes = recording("ssh-active").processes.into_iter().filter(|p| p.pid == 801).collect();
        host.processes[0].cmdline = vec![format!("sshd: {user}@notty")];
        let reading = sample(SshSensor, host).await.unwrap();
        assert_eq!(lines(&reading, "sessions").len(), sessions, "{user}: {reading:?}");
    }
}

#[tokio::test]
async fn a_login_without_a_known_process_is_a_session() {
    let mut host = recording("ssh-active");
    host.processes.clear();
    let reading = sample(SshSensor, host).await.unwrap();
    assert_eq!(lines(&reading, "sessions"), ["alice pts/0 2026-03-02 09:00 00:02 801 (192.0.2.6)"]);
}

#[tokio::test]
async fn a_session_holds_though_utmp_and_terminals_cannot_be_read() {
    let mut host = recording("ssh-active");
    for call in [HostCall::Logins, HostCall::Connections, HostCall::LastInput] {
        host = host.with_fault(call, HostFault::Error("permission denied".into()));
    }
    assert_eq!(sample(SshSensor, host).await.unwrap().reason, "5 SSH session(s)");
}

#[tokio::test]
async fn an_editor_with_its_client_is_a_connection() {
    let reading = sample(IdeSensor, recording("ide-active")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.confidence), ("1 IDE connection(s)", Confidence::Medium));
    assert_eq!(lines(&reading, "connections"), ["VS Code: 127.0.0.1:50200 -> 127.0.0.1:44321 (process 901, alice)"]);
}

#[tokio::test]
async fn a_server_that_outlived_its_client_is_none() {
    let reading = sample(IdeSensor, recording("ide-idle")).await.unwrap();
    assert_eq!(reading.reason, "No IDE connections detected (after 3 checks)");
    assert_eq!(reading.confidence, Confidence::Medium);
}

#[tokio::test]
async fn a_connection_that_two_looks_missed_is_seen_by_the_third() {
    use dh_core::testkit::RecordedHost;
    use std::sync::Arc;

    use crate::support::context;

    /// A host whose connections show from the third look on.
    #[derive(Debug)]
    struct Late(RecordedHost);

    #[async_trait::async_trait]
    impl dh_core::ports::Host for Late {
        fn now(&self) -> jiff::Timestamp {
            self.0.now()
        }
        fn processes(&self) -> dh_core::domain::Result<Vec<dh_core::ports::Process>> {
            self.0.processes()
        }
        fn connections(&self) -> dh_core::domain::Result<Vec<TcpConnection>> {
            let connections = self.0.connections()?;
            let looks = self.0.calls().iter().filter(|call| **call == HostCall::Connections).count();
            Ok(if looks < 3 { Vec::new() } else { connections })
        }
        fn logins(&self) -> dh_core::domain::Result<Vec<dh_core::ports::Login>> {
            self.0.logins()
        }
        fn last_input(&self, tty: &str) -> dh_core::domain::Result<Option<jiff::Timestamp>> {
            self.0.last_input(tty)
        }
        fn container_sockets(&self) -> dh_core::domain::Result<Vec<dh_core::ports::ContainerSocket>> {
            self.0.container_sockets()
        }
        fn coffee_lock(&self) -> dh_core::domain::Result<Option<String>> {
            self.0.coffee_lock()
        }
        async fn http_get(
            &self,
            target: &HttpTarget,
            path: &str,
        ) -> dh_core::domain::Result<Option<dh_core::ports::HttpAnswer>> {
            self.0.http_get(target, path).await
        }
    }

    let host = Arc::new(Late(RecordedHost::new(recording("ide-active"))));
    let sweep = dh_core::sensor::Sweep::new(vec![Arc::new(IdeSensor)]);
    let reading = sweep.run(&context(host.clone())).await.remove(0);
    assert!(reading.is_active(), "a sweep's shared answers must not stand in for a second look: {reading:?}");
}

#[tokio::test]
async fn containers_are_workloads_or_ignored_with_the_reason() {
    let reading = sample(DockerSensor, recording("docker-active")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.confidence), ("2 workload container(s)", Confidence::Medium));
    assert_eq!(
        lines(&reading, "containers"),
        ["bbbbbbbbbbbb (me/prom/node-exporter-clone)", "training (pytorch/pytorch:2.6)"]
    );
    assert_eq!(lines(&reading, "ignored"), ["devcontainer-1 (dev-container)", "metrics (system image)"]);
}

#[tokio::test]
async fn only_ignored_containers_are_no_workload() {
    let reading = sample(DockerSensor, recording("docker-idle")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.activity), ("No workload containers", Activity::Idle));
    assert_eq!(
        lines(&reading, "ignored"),
        ["devcontainer-1 (dev-container)", "editor (dev-container)", "metrics (system image)"]
    );
}

#[tokio::test]
async fn without_a_container_engine_there_are_no_containers() {
    let reading = sample(DockerSensor, Recording::at(recording("docker-idle").now)).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.activity), ("No workload containers", Activity::Idle));
}

#[tokio::test]
async fn containers_that_no_engine_tells_of_are_seen_by_what_holds_them() {
    let reading = sample(DockerSensor, recording("docker-unanswered")).await.unwrap();
    assert_eq!(lines(&reading, "containers"), ["aaaaaaaaaaaa (held by containerd-shim)", "training (held by conmon)"]);
    let mut told = recording("docker-unanswered");
    told.http = recording("docker-idle").http;
    told.http[0].body[0]["Id"] = "a".repeat(64).into();
    told.http[0].body[1]["Id"] = "0123456789abcdef".into();
    let reading = sample(DockerSensor, told).await.unwrap();
    assert_eq!(reading.activity, Activity::Idle, "an editor's container is one, whoever holds it: {reading:?}");
}

#[tokio::test]
async fn a_neighbours_containers_are_not_this_engines() {
    let mut host = recording("docker-of-others");
    assert_eq!(sample(DockerSensor, host.clone()).await.unwrap().activity, Activity::Idle);
    host.http[0].body[0]["Labels"] = json!({"dh.engine": "i-0123456789abcdef0"});
    assert_eq!(lines(&sample(DockerSensor, host).await.unwrap(), "containers"), ["someone-elses (postgres:16)"]);
}

#[tokio::test]
async fn answers_that_are_no_list_of_containers_are_errors() {
    let good = recording("docker-idle");
    for (status, body) in [
        (500, json!("oops")),
        (404, json!({"message": "no such page"})),
        (200, json!("")),
        (200, json!({"message": "hello"})),
        (200, json!("<html>")),
        (200, json!([{"Id": 5}])),
        (200, json!("[{\"Id\": \"abc\"")),
    ] {
        let mut host = good.clone();
        host.http = vec![RecordedHttp { status, body: body.clone(), ..good.http[0].clone() }];
        let error = sample(DockerSensor, host).await.unwrap_err();
        assert!(error.full_message().contains("/run/docker.sock"), "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn one_engines_work_holds_though_another_engine_is_broken() {
    let mut host = recording("docker-active");
    let broken = HttpTarget::Unix("/run/broken.sock".into());
    host.container_sockets.insert(0, dh_core::ports::ContainerSocket { path: "/run/broken.sock".into(), label: None });
    host.http.push(RecordedHttp { target: broken, path: "/containers/json".into(), status: 500, body: json!("") });
    assert!(sample(DockerSensor, host.clone()).await.unwrap().is_active());
    host.http[0].body = json!([]);
    assert!(sample(DockerSensor, host).await.is_err(), "and without it nobody can say");
}

#[tokio::test]
async fn the_coffee_lock_counts_down() {
    let reading = sample(CoffeeSensor, recording("coffee-active")).await.unwrap();
    assert_eq!((reading.reason.as_str(), reading.confidence), ("Coffee lock active (15m remaining)", Confidence::High));
    assert_eq!(reading.details.get("remaining_seconds"), Some(&DetailValue::Number(870.0)));
    let over = sample(CoffeeSensor, recording("coffee-idle")).await.unwrap();
    assert_eq!((over.reason.as_str(), over.activity), ("No coffee lock", Activity::Idle));
    let mut at_the_end = recording("coffee-active");
    at_the_end.now = "2026-03-02T12:14:30Z".parse().unwrap();
    assert_eq!(sample(CoffeeSensor, at_the_end).await.unwrap().reason, "No coffee lock");
    let none = sample(CoffeeSensor, Recording::at(over_now())).await.unwrap();
    assert_eq!(none.reason, "No coffee lock");
}

#[tokio::test]
async fn a_clock_that_steps_neither_ends_nor_prolongs_the_coffee_lock() {
    let (start, minutes) = (over_now(), |minutes: u64| std::time::Duration::from_secs(60 * minutes));
    let boot = |id: &str, at| Some(BootTime { id: id.into(), since_boot: at });
    let lock = CoffeeLock::lasting(minutes(60), start, boot("first", minutes(5))).to_string();
    let look = async |now, boot| {
        let host = Recording { coffee: Some(lock.clone()), boot, ..Recording::at(now) };
        sample(CoffeeSensor, host).await.unwrap().reason
    };
    let hours = |hours| jiff::SignedDuration::from_hours(hours);
    for step in [0, 3, -3, 24 * 400, -24 * 400] {
        let now = start + hours(step);
        assert_eq!(look(now, boot("first", minutes(20))).await, "Coffee lock active (45m remaining)", "{step} h");
        assert_eq!(look(now, boot("first", minutes(65))).await, "No coffee lock", "{step} h");
    }
    // After a start or a thaw the wall clock is all there is to go by.
    let later = start + jiff::SignedDuration::from_mins(50);
    for other in [boot("second", minutes(1)), boot("second", minutes(90)), None] {
        assert_eq!(look(later, other.clone()).await, "Coffee lock active (10m remaining)");
        assert_eq!(look(start + hours(1), other).await, "No coffee lock");
    }
}

fn over_now() -> jiff::Timestamp {
    recording("coffee-idle").now
}

#[tokio::test]
async fn a_coffee_lock_nobody_can_have_asked_for_is_an_error() {
    for lock in ["2031-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "253402207200", "", "soon"] {
        let host = Recording { coffee: Some(lock.into()), ..recording("coffee-idle") };
        let error = sample(CoffeeSensor, host).await.unwrap_err();
        assert!(error.hint().is_some(), "{lock}: {error:?}");
    }
}
