//! Embeds dh-core: a policy of one's own over any backend, tested against `MockEngineBackend`.
//!
//! The policy sends a user's running machines to rest at the end of the day. Its tests say which calls must reach the
//! backend and what each answers; a call that no test expects fails it. The mocks come with dh-core's feature `mock`.
//!
//! Run it with `cargo run -p dh-examples --example mock_backend`, its tests with `cargo test -p dh-examples`.

use dh_core::domain::{EngineName, EnvironmentName, Error, Machine, MachineState, Result, SizeGb, StopMode, UserName};
use dh_core::ports::{Capabilities, EngineBackend, MockEngineBackend};

/// What became of the machines that ran.
#[derive(Debug, Default)]
struct Evening {
    resting: Vec<EngineName>,
    failed: Vec<(EngineName, Error)>,
}

/// Hibernates the user's running machines where the backend can, stops them where it cannot. One that fails keeps none of
/// the others up.
async fn end_of_day(backend: &dyn EngineBackend, environment: &EnvironmentName, user: &UserName) -> Result<Evening> {
    let mode = if backend.capabilities().hibernate { StopMode::Hibernate } else { StopMode::Stop };
    let mut evening = Evening::default();
    for machine in backend.list_machines(environment).await? {
        if machine.state != MachineState::Running || machine.user != *user {
            continue;
        }
        match backend.stop_machine(&machine.id, mode).await {
            Ok(()) => evening.resting.push(machine.engine),
            Err(error) => evening.failed.push((machine.engine, error)),
        }
    }
    Ok(evening)
}

fn machine(id: &str, engine: &str, user: &str, state: MachineState) -> Result<Machine> {
    Ok(Machine {
        id: id.parse()?,
        engine: engine.parse()?,
        environment: "dev".parse()?,
        user: user.parse()?,
        state,
        state_reason: None,
        launched_at: Default::default(),
        public_ip: None,
        engine_type: "cpu".into(),
        instance_type: "r6i.2xlarge".into(),
        boot_disk_gb: SizeGb::new(50)?,
        zone: "a".into(),
        attachments: Default::default(),
    })
}

/// Two running machines of alice's, one of bob's, and one of alice's that is stopped already.
fn fleet() -> Result<Vec<Machine>> {
    Ok(vec![
        machine("i-1", "work", "alice", MachineState::Running)?,
        machine("i-2", "training", "alice", MachineState::Running)?,
        machine("i-3", "bobs", "bob", MachineState::Running)?,
        machine("i-4", "old", "alice", MachineState::Stopped)?,
    ])
}

fn backend(hibernate: bool) -> Result<MockEngineBackend> {
    let mut capabilities = Capabilities::all(Default::default(), SizeGb::new(50)?);
    capabilities.hibernate = hibernate;
    let mut backend = MockEngineBackend::new();
    backend.expect_capabilities().return_const(capabilities);
    backend.expect_list_machines().times(1).returning(|_| fleet());
    Ok(backend)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut backend = backend(true)?;
    backend.expect_stop_machine().returning(|_, _| Ok(()));
    let evening = end_of_day(&backend, &"dev".parse()?, &"alice".parse()?).await?;
    for engine in evening.resting {
        println!("{engine} rests");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dh_core::domain::ErrorKind;

    use super::*;

    async fn run(backend: &MockEngineBackend) -> Evening {
        end_of_day(backend, &"dev".parse().unwrap(), &"alice".parse().unwrap()).await.unwrap()
    }

    fn names(engines: &[EngineName]) -> Vec<&str> {
        engines.iter().map(EngineName::as_str).collect()
    }

    #[tokio::test]
    async fn only_the_users_running_machines_are_hibernated() {
        let mut backend = backend(true).unwrap();
        for id in ["i-1", "i-2"] {
            let this = move |asked: &dh_core::domain::MachineId, mode: &StopMode| {
                asked.as_str() == id && *mode == StopMode::Hibernate
            };
            backend.expect_stop_machine().withf(this).times(1).returning(|_, _| Ok(()));
        }
        assert_eq!(names(&run(&backend).await.resting), ["work", "training"]);
    }

    #[tokio::test]
    async fn where_the_backend_cannot_hibernate_they_are_stopped() {
        let mut backend = backend(false).unwrap();
        backend.expect_stop_machine().withf(|_, mode| *mode == StopMode::Stop).times(2).returning(|_, _| Ok(()));
        assert_eq!(run(&backend).await.resting.len(), 2);
    }

    #[tokio::test]
    async fn one_failure_keeps_none_of_the_others_up() {
        let mut backend = backend(true).unwrap();
        backend.expect_stop_machine().returning(|id, _| match id.as_str() {
            "i-1" => Err(Error::new(ErrorKind::Throttled, "too many requests")),
            _ => Ok(()),
        });
        let evening = run(&backend).await;
        assert_eq!(names(&evening.resting), ["training"]);
        assert_eq!((evening.failed[0].0.as_str(), evening.failed[0].1.kind()), ("work", ErrorKind::Throttled));
    }
}
