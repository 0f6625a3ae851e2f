//! The engine's life, as one task that owns all of its state.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dh_core::backend::local::control::{Request, listen};
use dh_core::backend::local::map::{io_error, not_running};
use dh_core::backend::local::{
    Boot, EngineDir, MachineRecord, PowerLock, cgroup, engine_types, host_boot_id, removal, renew_boot_id, volume,
};
use dh_core::domain::{Error, ErrorKind, MachineState, Result, StateReason, StopCause, StopMode};
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::children::{Begun, Children};
use super::connection::{self, Answer, Call, Session};
use super::group::Group;
use crate::layout::Layout;
use crate::poke;

/// How soon a killed agent is started again, and how long at most when it is killed again and again.
const RESTART_SOON: Duration = Duration::from_millis(200);
const RESTART_LATE: Duration = Duration::from_secs(30);

/// An agent that ran for so long is healthy.
const HEALTHY: Duration = Duration::from_secs(60);

/// Between two kills of what does not die.
const KILL_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Engine {
    dir: EngineDir,
    record: MachineRecord,
    children: Children,
    group: Group,
    grace: Duration,
    phase: Phase,
    agent: Agent,
    sessions: HashMap<Pid, oneshot::Sender<i32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Hibernated,
    Ending { goal: Goal, kill_at: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Stop,
    Terminate,
}

#[derive(Debug)]
struct Agent {
    pid: Option<Pid>,
    started_at: Instant,
    start_at: Instant,
    pause: Duration,
}

/// Runs an engine from power-on to power-off.
pub async fn supervise(dir: EngineDir, agent: PathBuf, grace: Duration, _lock: &PowerLock) -> Result<()> {
    let failed = |what: &'static str| {
        let path = dir.path().to_owned();
        move |source: std::io::Error| io_error(what, &path, source)
    };
    // Handled here also so that the engine's processes begin with none of them ignored: what is handled is reset by exec.
    let listen_for = |kind| signal(kind).map_err(failed("cannot await signals for"));
    let mut ended_children = listen_for(SignalKind::child())?;
    let mut asked_to_end = listen_for(SignalKind::terminate())?;
    let _ignored = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()].map(listen_for);
    set_child_subreaper(Some(getpid())).map_err(|errno| failed("cannot supervise")(errno.into()))?;

    let mut record = MachineRecord::load(&dir)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no machine in that directory")
            .with_context("path", dir.path().display())
    })?;
    // A supervisor that was killed while it was stopping may have left something that no look has cleared away yet.
    removal::clear(&dir, &record)?;
    volume::power_on(dir.path())?;
    renew_boot_id(&dir)?;
    let limits = engine_types()
        .get(&record.engine_type)
        .map(|hints| cgroup::Limits::for_type(hints.vcpus, hints.memory_gb))
        .unwrap_or_default();
    let cgroups = cgroup::create(&record.id, limits);
    record.boots += 1;
    record.boot =
        Some(Boot { host: host_boot_id()?, supervisor: getpid().as_raw_nonzero().get(), cgroups: cgroups.clone() });
    let listener = listen(&dir.socket()).map_err(failed("cannot listen in"))?;
    listener.set_nonblocking(true).map_err(failed("cannot listen in"))?;
    let listener = UnixListener::from_std(listener).map_err(failed("cannot listen in"))?;

    let mut engine = Engine {
        children: Children::new(dir.clone(), agent, &record, cgroups.clone()),
        group: Group::new(cgroups),
        grace,
        phase: Phase::Running,
        agent: Agent { pid: None, started_at: Instant::now(), start_at: Instant::now(), pause: RESTART_SOON },
        sessions: HashMap::new(),
        record,
        dir,
    };
    // First the record: whoever clears up after this process finds the engine's groups in it.
    engine.record.set_state(MachineState::Running, None);
    engine.record.save(&engine.dir)?;
    engine.start_agent();
    tracing::info!(machine = %engine.record.id, "the engine has power");

    let (calls, mut called) = mpsc::channel(16);
    tokio::task::spawn_local(accept(listener, calls));
    loop {
        if engine.reap() == Below::Nothing && matches!(engine.phase, Phase::Ending { .. }) {
            break;
        }
        engine.act_on_time();
        let wake = engine.next_wake();
        tokio::select! {
            _ = ended_children.recv() => {}
            Some(call) = called.recv() => engine.answer(call),
            _ = asked_to_end.recv() => engine.end(Goal::Stop, StopCause::Died, "its supervisor was asked to end"),
            () = sleep_until(wake) => {}
        }
    }
    engine.power_off().await
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection::serve(stream, calls.clone()));
            }
            Err(error) => {
                // Out of descriptors: those of a client that goes are free again.
                tracing::warn!(%error, "a client cannot be served");
                tokio::time::sleep(KILL_AGAIN).await;
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether anything is below the supervisor.
#[derive(Debug, PartialEq, Eq)]
enum Below {
    Something,
    Nothing,
}

impl Engine {
    /// Takes note of every child that has ended, of those too that came to us when their parents ended.
    fn reap(&mut self) -> Below {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.child_ended(pid, status),
                Ok(None) => return Below::Something,
                Err(Errno::INTR) => {}
                Err(_) => return Below::Nothing,
            }
        }
    }

    fn child_ended(&mut self, pid: Pid, status: WaitStatus) {
        if let Some(end) = self.sessions.remove(&pid) {
            let _ = end.send(exit_code(status));
        }
        if self.agent.pid == Some(pid) {
            self.agent.pid = None;
            if self.phase == Phase::Running {
                if self.agent.started_at.elapsed() > HEALTHY {
                    self.agent.pause = RESTART_SOON;
                }
                tracing::warn!(exit_code = exit_code(status), again_in = ?self.agent.pause, "the agent ended");
                self.agent.start_at = Instant::now() + self.agent.pause;
                self.agent.pause = (self.agent.pause * 2).min(RESTART_LATE);
            }
        }
    }

    fn start_agent(&mut self) {
        self.agent.started_at = Instant::now();
        match self.children.agent() {
            Ok(pid) => self.agent.pid = Some(pid),
            Err(error) => {
                tracing::error!(error = %error.full_message(), again_in = ?self.agent.pause, "the agent does not start");
                self.agent.start_at = Instant::now() + self.agent.pause;
                self.agent.pause = (self.agent.pause * 2).min(RESTART_LATE);
            }
        }
    }

    fn act_on_time(&mut self) {
        let now = Instant::now();
        match &mut self.phase {
            Phase::Running if self.agent.pid.is_none() && self.agent.start_at <= now => self.start_agent(),
            Phase::Ending { kill_at, .. } if *kill_at <= now => {
                *kill_at = now + KILL_AGAIN;
                self.group.kill();
            }
            _ => {}
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running if self.agent.pid.is_none() => Some(self.agent.start_at),
            Phase::Ending { kill_at, .. } => Some(kill_at),
            _ => None,
        }
    }

    fn answer(&mut self, call: Call) {
        let Call { request, descriptors, answer } = call;
        let done = match request {
            Request::Stop { mode: StopMode::Stop, cause, message } => {
                if self.phase == Phase::Running {
                    self.end(Goal::Stop, cause, &message);
                }
                Ok(Answer::Done)
            }
            Request::Stop { mode: StopMode::Hibernate, cause, message } => self.hibernate(cause, message),
            Request::Thaw => self.thaw(),
            Request::Terminate => {
                self.end(Goal::Terminate, StopCause::User, "terminated on request");
                Ok(Answer::Done)
            }
            Request::Update(update) => {
                let mut changed = self.record.clone();
                update.apply(&mut changed);
                changed.save(&self.dir).map(|()| {
                    self.record = changed;
                    Answer::Done
                })
            }
            Request::Session(spec) => match self.phase {
                Phase::Running => self.children.session(&spec, descriptors).map(|begun| match begun {
                    Begun::Ended { exit_code } => Answer::Ended { exit_code },
                    Begun::Runs { pid, terminal } => {
                        let (ended, end) = oneshot::channel();
                        self.sessions.insert(pid, ended);
                        Answer::Session(Session { leader: pid, terminal, end })
                    }
                }),
                _ => Err(not_running(self.record.id.as_str(), self.state_word())),
            },
            Request::Signal(_) => {
                Err(Error::new(ErrorKind::InvalidArgument, "there is no session on this connection to signal"))
            }
        };
        let _ = answer.send(done);
    }

    fn state_word(&self) -> &'static str {
        match self.phase {
            Phase::Running => "running",
            Phase::Hibernated => "hibernated",
            Phase::Ending { goal: Goal::Stop, .. } => "stopping",
            Phase::Ending { goal: Goal::Terminate, .. } => "terminating",
        }
    }

    /// Asks everything to end, and sets the time at which it is killed.
    fn end(&mut self, goal: Goal, cause: StopCause, message: &str) {
        let (state, word) = match goal {
            Goal::Stop => (MachineState::Stopping, "stopping"),
            Goal::Terminate => (MachineState::Terminating, "terminating"),
        };
        let before = self.phase;
        if let Phase::Ending { goal: Goal::Terminate, .. } = before {
            return;
        }
        tracing::info!(machine = %self.record.id, message, "{word}");
        let at = Timestamp::now();
        self.record.set_state(state, Some(StateReason { cause, message: message.into(), at }));
        // Intent before effect; but an engine that is to stop stops on a full disk too.
        if let Err(error) = self.record.save(&self.dir) {
            tracing::error!(error = %error.full_message(), "the stop is not recorded");
        }
        let now = Instant::now();
        let kill_at = match before {
            Phase::Running => now + self.grace,
            Phase::Hibernated => now,
            Phase::Ending { kill_at, .. } => kill_at,
        };
        self.phase = Phase::Ending { goal, kill_at };
        if before == Phase::Running {
            self.group.signal(Signal::TERM);
            // Shells do not heed that, but do heed that their terminal is gone; what is stopped heeds nothing until it goes on.
            for leader in self.sessions.keys() {
                let _ = rustix::process::kill_process_group(*leader, Signal::HUP);
            }
            self.group.signal(Signal::CONT);
        }
    }

    fn hibernate(&mut self, cause: StopCause, message: String) -> Result<Answer> {
        if self.phase != Phase::Running {
            return Ok(Answer::Done);
        }
        let reason = StateReason { cause, message, at: Timestamp::now() };
        self.record.set_state(MachineState::Stopping, Some(reason.clone()));
        self.record.save(&self.dir)?;
        if !self.group.freeze() {
            self.record.set_state(MachineState::Running, None);
            self.record.save(&self.dir)?;
            return Err(Error::new(ErrorKind::Failed, "not all of the engine's processes could be frozen in time")
                .with_context("backend", "local")
                .with_hint("try again, or run 'dh engine stop' to stop it without its memory"));
        }
        self.phase = Phase::Hibernated;
        self.record.set_state(MachineState::Hibernated, Some(reason));
        if let Err(error) = self.record.save(&self.dir) {
            tracing::error!(error = %error.full_message(), "the hibernation is not recorded");
        }
        tracing::info!(machine = %self.record.id, "hibernated");
        Ok(Answer::Done)
    }

    fn thaw(&mut self) -> Result<Answer> {
        match self.phase {
            Phase::Running => return Ok(Answer::Done),
            Phase::Ending { .. } => {
                return Err(Error::new(ErrorKind::Conflict, format!("the engine is {}", self.state_word()))
                    .with_context("backend", "local")
                    .with_hint("wait for it to stop, then run 'dh engine start' again"));
            }
            Phase::Hibernated => {}
        }
        let mut running = self.record.clone();
        running.set_state(MachineState::Running, None);
        running.launched_at = Timestamp::now();
        running.save(&self.dir)?;
        self.record = running;
        // Before anything runs: the agent must not count the time it was frozen as idle.
        renew_boot_id(&self.dir)?;
        self.group.thaw();
        self.phase = Phase::Running;
        // Else whoever started it waits for the agent's next look.
        poke::poke(&Layout::under(self.dir.disk()).poke());
        tracing::info!(machine = %self.record.id, "thawed");
        Ok(Answer::Done)
    }

    /// Nothing runs any more: lets go of volumes, control groups and, when terminated, the disk.
    async fn power_off(mut self) -> Result<()> {
        let (dir, cgroups) = (self.dir.clone(), self.group.cgroups().to_vec());
        // On another thread, so that clients still hear of the end of their sessions.
        let off = tokio::task::spawn_blocking(move || {
            cgroup::remove(&cgroups);
            volume::power_off(dir.path())
        });
        let off = off.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "the volumes were not switched off").with_source(error))
        });
        if let Err(error) = &off {
            tracing::error!(error = %error.full_message(), "volumes are not let go of");
        }
        tracing::info!(machine = %self.record.id, "the engine has no power");
        if matches!(self.phase, Phase::Ending { goal: Goal::Terminate, .. }) {
            return removal::remove(&self.dir);
        }
        self.record.boot = None;
        let reason = self.record.state_reason.take().map(|reason| match &off {
            Ok(()) => reason,
            Err(error) => StateReason { message: format!("{}; {}", reason.message, error.full_message()), ..reason },
        });
        self.record.set_state(MachineState::Stopped, reason);
        self.record.save(&self.dir)?;
        let _ = std::fs::remove_file(self.dir.socket());
        Ok(())
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    }
}
