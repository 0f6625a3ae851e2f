//! Sensors, and their only door to the host.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Axis, Reading, Result};

/// Senses one kind of use.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Sensor: Debug + Send + Sync + 'static {
    /// Returns the sensor's name: `ssh`.
    fn name(&self) -> &str;

    /// Returns what it looks at.
    fn axis(&self) -> Axis;

    /// Looks once. It reads nothing but what the context offers, and keeps nothing that a restart may not lose.
    ///
    /// # Errors
    /// Whatever kept it from seeing; the caller takes that for a reading of unknown.
    async fn sample(&self, context: &SensorContext) -> Result<Reading>;
}

/// What a sensor may use.
#[derive(Debug, Clone)]
pub struct SensorContext {
    /// The host, or one engine's share of it.
    pub host: Arc<dyn Host>,
    /// After this the sensor is cut off.
    pub deadline: Duration,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub ppid: u32,
    /// Its session's id.
    #[serde(default)]
    pub session: u32,
    /// The name of its controlling terminal below `/dev` (`pts/0`), where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Its user's name, or number.
    pub user: String,
    /// The kernel's short name for it (15 bytes at most).
    pub comm: String,
    /// Its arguments; empty for kernel threads and zombies. A very long command line is cut.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How it came to be there, where dh began it: `exec`, `shell` or `ssh`. Its children inherit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dh_session: Option<String>,
}

/// An established TCP connection with one end here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpConnection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The process that holds this end, where it can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether the other side came to us: something here listens on the local port.
    #[serde(default)]
    pub inbound: bool,
}

/// Somebody logged in, as recorded in utmp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The terminal below `/dev`: `pts/0`.
    pub line: String,
    /// From where: a remote address, `tmux(123).%0`, `:0`; empty at the machine's own terminal.
    #[serde(default)]
    pub from: String,
    /// Since when.
    pub since: Timestamp,
    /// The session's process.
    pub pid: u32,
}

/// Where a local HTTP service listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpTarget {
    /// A Unix socket.
    Unix(String),
    /// A port on loopback.
    Loopback(u16),
}

/// Where a container engine may answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSocket {
    /// The socket's path.
    pub path: String,
    /// Only containers that bear this label (`key=value`) are in scope; without it, all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The body, at most one MiB; a longer one is an error.
    pub body: String,
}

/// A boot, and a moment in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootTime {
    /// The boot's id: another one after every start and every thaw.
    pub id: String,
    /// The boot clock, which no step of the wall clock moves.
    pub since_boot: Duration,
}

/// The host as sensors see it. Under the local backend this is one engine's processes and nothing else.
///
/// A thing that is not there (`None`, an empty list) is told apart from one that could not be seen (an error).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Host: Debug + Send + Sync + 'static {
    /// Returns the wall clock's time.
    fn now(&self) -> Timestamp;

    /// Returns the time by the boot clock; `None` where the host cannot tell which boot this is.
    fn boot(&self) -> Option<BootTime> {
        None
    }

    /// Returns the processes in scope, by id.
    fn processes(&self) -> Result<Vec<Process>>;

    /// Returns the established TCP connections whose process is in scope.
    fn connections(&self) -> Result<Vec<TcpConnection>>;

    /// Returns who is logged in on a terminal, of those in scope; none where the host keeps no such record.
    fn logins(&self) -> Result<Vec<Login>>;

    /// Returns when a terminal (`pts/0`) last had input; `None` when it is gone.
    fn last_input(&self, tty: &str) -> Result<Option<Timestamp>>;

    /// Returns the sockets on which a container engine of this host may answer, those that exist.
    fn container_sockets(&self) -> Result<Vec<ContainerSocket>>;

    /// Returns the text of the coffee lock; `None` when there is none.
    fn coffee_lock(&self) -> Result<Option<String>>;

    /// Asks a local HTTP service; `None` when nothing listens there.
    async fn http_get(&self, target: &HttpTarget, path: &str) -> Result<Option<HttpAnswer>>;
}
