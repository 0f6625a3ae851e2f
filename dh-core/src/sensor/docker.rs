//! Containers that do somebody's work.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use serde::Deserialize;

use super::text::plain;
use crate::domain::{Activity, Axis, Confidence, Error, ErrorKind, Reading, Result};
use crate::ports::{ContainerSocket, Host, HttpTarget, Process, Sensor, SensorContext};

const NAME: &str = "docker";

/// What Docker and podman answer with the running containers, paused ones among them.
const RUNNING: &str = "/containers/json";

/// Images that serve the machine and not its user, without registry and tag. Compared whole.
const SYSTEM_IMAGES: &[&str] = &[
    "amazon/amazon-ecs-agent",
    "amazon/amazon-ssm-agent",
    "amazon/cloudwatch-agent",
    "cadvisor/cadvisor",
    "containrrr/watchtower",
    "datadog/agent",
    "grafana/promtail",
    "moby/buildkit",
    "nvidia/dcgm-exporter",
    "nvidia/k8s/dcgm-exporter",
    "pause",
    "podman-pause",
    "portainer/agent",
    "portainer/portainer",
    "portainer/portainer-ce",
    "prom/node-exporter",
    "registry",
];

/// The processes that hold a container each, whether or not its engine answers, by the kernel's short name (15 bytes of
/// it), with their options for the container's id and name.
const SHIMS: &[(&str, &str, &str)] = &[("conmon", "-c", "-n"), ("containerd-shim", "-id", "")];

/// Asks Docker and podman for their running containers. Development containers (an editor's: the `ide` sensor sees its
/// client) and system images are listed under `ignored`; everything else that runs is somebody's work.
///
/// A container of which no engine tells counts as work too, seen by the process that holds it: podman needs no service to
/// run one, and Docker's outlive a Docker that has crashed. A socket that is there and does not answer as it should, or in
/// time, reads unknown; where nothing listens any more, the holding processes are all the evidence there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerSensor;

/// A container as the engine lists it. Docker and podman both may send null for any list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    id: String,
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
}

#[derive(Debug, Default)]
struct Seen {
    workloads: Vec<String>,
    ignored: Vec<String>,
    ids: HashSet<String>,
}

#[async_trait]
impl Sensor for DockerSensor {
    fn name(&self) -> &str {
        NAME
    }

    fn axis(&self) -> Axis {
        Axis::Work
    }

    async fn sample(&self, context: &SensorContext) -> Result<Reading> {
        let host = &*context.host;
        let mut seen = Seen::default();
        let mut failure = None;
        for socket in host.container_sockets()? {
            match containers(host, &socket).await {
                Ok(containers) => seen.add(containers.unwrap_or_default(), socket.label.as_deref()),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match host.processes() {
            Ok(processes) => seen.add_unaccounted(&processes),
            Err(error) => failure = failure.or(Some(error)),
        }
        let Seen { mut workloads, mut ignored, .. } = seen;
        workloads.sort();
        ignored.sort();
        let reading = match failure {
            // Work that was seen holds, whatever else there would have been to see.
            _ if !workloads.is_empty() => {
                let reason = format!("{} workload container(s)", workloads.len());
                Reading::new(NAME, Activity::Active, Confidence::Medium, Axis::Work, reason)
                    .with_detail("containers", workloads)
            }
            Some(error) => return Err(error),
            None => Reading::new(NAME, Activity::Idle, Confidence::Medium, Axis::Work, "No workload containers"),
        };
        Ok(if ignored.is_empty() { reading } else { reading.with_detail("ignored", ignored) })
    }
}

impl Seen {
    fn add(&mut self, containers: Vec<Container>, only: Option<&str>) {
        for container in containers {
            self.ids.insert(container.id.clone());
            if !only.is_none_or(|label| container.bears(label)) || !container.is_running() {
                continue;
            }
            match container.ignored_as() {
                Some(why) => self.ignored.push(format!("{} ({why})", container.name())),
                None => self.workloads.push(format!("{} ({})", container.name(), plain(&container.image))),
            }
        }
    }

    /// Adds the containers that run though no engine has told of them. A pod's infra container holds nothing but names.
    fn add_unaccounted(&mut self, processes: &[Process]) {
        for process in processes {
            let Some((_, id, name)) = SHIMS.iter().find(|(comm, ..)| *comm == process.comm) else { continue };
            let option = |wanted: &str| {
                let at = process.cmdline.iter().position(|argument| argument == wanted)?;
                process.cmdline.get(at + 1).map(String::as_str)
            };
            let Some(id) = option(id) else { continue };
            let name = option(name).unwrap_or(&id[..id.floor_char_boundary(12)]);
            if self.ids.insert(id.to_owned()) && !name.ends_with("-infra") {
                self.workloads.push(format!("{} (held by {})", plain(name), process.comm));
            }
        }
    }
}

impl Container {
    fn name(&self) -> String {
        let name = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        match name {
            Some(name) if !name.is_empty() => plain(name),
            _ => plain(&self.id[..self.id.floor_char_boundary(12)]),
        }
    }

    fn bears(&self, label: &str) -> bool {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        self.labels.iter().flatten().any(|(k, v)| k == key && v == value)
    }

    /// Paused ones run: their memory is somebody's work, and a stop would lose it. A state we do not know counts as well.
    fn is_running(&self) -> bool {
        !matches!(self.state.as_str(), "created" | "configured" | "exited" | "stopped" | "dead" | "removing")
    }

    fn ignored_as(&self) -> Option<&'static str> {
        let repository = repository(&self.image);
        let is_dev_label = |key: &String| key.starts_with("devcontainer.") || key.starts_with("vsch.");
        let is_dev = self.labels.iter().flatten().any(|(key, _)| is_dev_label(key))
            || repository.rsplit('/').next().is_some_and(|name| name.starts_with("vsc-"));
        if is_dev {
            Some("dev-container")
        } else if SYSTEM_IMAGES.contains(&repository) {
            Some("system image")
        } else {
            None
        }
    }
}

/// Returns an image's name without registry, tag and digest: `prom/node-exporter` of `docker.io/prom/node-exporter:v1`.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let image = match image.split_once('/') {
        // A registry has a dot or a port, or is localhost; a user of Docker Hub has none.
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => rest,
        _ => image,
    };
    let image = image.strip_prefix("library/").unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

async fn containers(host: &dyn Host, socket: &ContainerSocket) -> Result<Option<Vec<Container>>> {
    let Some(answer) = host.http_get(&HttpTarget::Unix(socket.path.clone()), RUNNING).await? else { return Ok(None) };
    if answer.status != 200 {
        let what = format!("{} answers with status {}", plain(&socket.path), answer.status);
        return Err(Error::new(ErrorKind::Unavailable, what));
    }
    let containers = serde_json::from_str(&answer.body).map_err(|error| {
        let what = format!("{} answers with something that is not a list of containers", plain(&socket.path));
        Error::new(ErrorKind::Unavailable, what).with_source(error)
    })?;
    Ok(Some(containers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_without_registry_tag_and_digest() {
        for (image, name) in [
            ("docker.io/prom/node-exporter:v1.8", "prom/node-exporter"),
            ("registry:2", "registry"),
            ("docker.io/library/registry:2", "registry"),
            ("localhost:5000/me/registry:2", "me/registry"),
            ("gcr.io/cadvisor/cadvisor@sha256:abc", "cadvisor/cadvisor"),
            ("localhost/podman-pause:4.3.1-0", "podman-pause"),
            ("sha256:0123", "sha256"),
            ("", ""),
        ] {
            assert_eq!(repository(image), name, "{image}");
        }
    }
}
