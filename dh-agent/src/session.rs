//! `dh-agent session`: this side of a session on an engine of this machine.

mod relay;
mod terminal;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use dh_core::backend::local::control::{
    Client, Inbox, Reply, Request, SessionKind, SessionSignal, SessionSpec, encode, send_part,
};
use dh_core::backend::local::map::io_error;
use dh_core::backend::local::{EngineDir, reach};
use dh_core::domain::{Error, Result};
use tokio::io::Interest;
use tokio::signal::unix::{SignalKind, signal};

use terminal::Terminal;

/// The variables a session takes over from its client's surroundings, as SSH would.
const KEPT_VARIABLES: &[&str] = &["TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE"];

/// SSH's own exit code for a connection that failed.
const CONNECTION_FAILED: u8 = 255;

#[derive(Debug, clap::Args)]
pub struct SessionArgs {
    /// The machine's directory.
    #[arg(long)]
    dir: PathBuf,
    /// Opens a login shell on a terminal.
    #[arg(long, conflicts_with_all = ["ssh", "command"])]
    shell: bool,
    /// Connects standard input and output with an SSH server, for SSH's ProxyCommand.
    #[arg(long, conflicts_with = "command")]
    ssh: bool,
    /// The command to run, with the caller's own standard streams.
    #[arg(last = true, required_unless_present_any = ["shell", "ssh"])]
    command: Vec<String>,
}

/// Opens the session and ends as its command does.
pub fn run(args: &SessionArgs) -> ExitCode {
    let dir = EngineDir::new(&args.dir);
    let done = match args {
        SessionArgs { ssh: true, .. } => relay::run(&dir),
        SessionArgs { shell: true, .. } => shell(&dir),
        _ => exec(&dir, &args.command),
    };
    match done {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("dh: {}", error.full_message());
            if let Some(hint) = error.hint() {
                eprintln!("    {hint}");
            }
            ExitCode::from(if args.ssh { CONNECTION_FAILED } else { error.kind().exit_code() })
        }
    }
}

/// Begins a session, and returns the connection that it lasts as long as, with the terminal's other end if it has one.
fn begin(dir: &EngineDir, kind: SessionKind, descriptors: &[BorrowedFd<'_>]) -> Result<(Client, Option<OwnedFd>)> {
    let variables =
        std::env::vars().filter(|(name, _)| KEPT_VARIABLES.contains(&name.as_str()) || name.starts_with("LC_"));
    let spec = SessionSpec { kind, env: variables.collect::<BTreeMap<_, _>>(), window: terminal::window() };
    let mut client = reach(dir)?;
    client.send(&Request::Session(spec), descriptors)?;
    let (_, received) = client.receive()?;
    Ok((client, received.into_iter().next()))
}

fn exec(dir: &EngineDir, command: &[String]) -> Result<i32> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let kind = SessionKind::Exec { argv: command.to_vec() };
    let (client, _) = begin(dir, kind, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    watch(dir, client, |_| {})
}

fn shell(dir: &EngineDir) -> Result<i32> {
    let (client, remote) = begin(dir, SessionKind::Shell, &[])?;
    let remote =
        remote.ok_or_else(|| io_error("there came no terminal from", dir.path(), io::ErrorKind::NotFound.into()))?;
    let terminal =
        Terminal::join(remote).map_err(|source| io_error("cannot use the terminal of", dir.path(), source))?;
    let code = watch(dir, client, |signal| {
        if signal == SessionSignal::WindowChange {
            terminal.follow_window();
        }
    });
    terminal.finish();
    code
}

/// Passes signals on until the session ends, and returns its exit code.
fn watch(dir: &EngineDir, client: Client, on_signal: impl Fn(SessionSignal)) -> Result<i32> {
    let failed = |source| io_error("lost the session on", dir.path(), source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stream, inbox) = client.into_parts();
    runtime.block_on(watch_connection(stream, inbox, on_signal)).map_err(failed)?.map_err(Error::from)
}

async fn watch_connection(
    stream: UnixStream,
    mut inbox: Inbox,
    on_signal: impl Fn(SessionSignal),
) -> io::Result<std::result::Result<i32, dh_core::domain::StoredError>> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut window = signal(SignalKind::window_change())?;
    loop {
        while let Some((reply, _)) = inbox.take::<Reply>()? {
            match reply {
                Reply::Ended { exit_code } => return Ok(Ok(exit_code)),
                Reply::Failed(error) => return Ok(Err(error)),
                Reply::Done | Reply::Started | Reply::TimedOut => {}
            }
        }
        let received = tokio::select! {
            count = stream.async_io(Interest::READABLE, || inbox.receive(stream.as_fd())) => {
                if count? == 0 {
                    return Err(rustix::io::Errno::CONNRESET.into());
                }
                continue;
            }
            _ = interrupt.recv() => SessionSignal::Interrupt,
            _ = quit.recv() => SessionSignal::Quit,
            _ = terminate.recv() => SessionSignal::Terminate,
            _ = hangup.recv() => SessionSignal::Hangup,
            _ = window.recv() => SessionSignal::WindowChange,
        };
        on_signal(received);
        let bytes = encode(&Request::Signal(received))?;
        // So short a message goes as a whole or, with a supervisor that reads nothing, not at all.
        stream.async_io(Interest::WRITABLE, || send_part(stream.as_fd(), &bytes, &[])).await?;
    }
}
