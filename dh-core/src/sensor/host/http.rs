//! One GET to a service on this machine: bounded in time and size.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::domain::{Error, ErrorKind, Result};
use crate::ports::{HttpAnswer, HttpTarget};

/// The longest body taken.
const BODY_MAX: usize = 1 << 20;

/// The most that hyper may hold of what has come and was not asked for yet.
const READ_AHEAD: usize = 64 * 1_024;

pub(super) async fn get(target: &HttpTarget, path: &str, deadline: Duration) -> Result<Option<HttpAnswer>> {
    let fail = |kind, what: String| Error::new(kind, format!("{} {what}", describe(target)));
    if !path.starts_with('/') || path.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{path:?} is not a path to ask for")));
    }
    match tokio::time::timeout(deadline, ask(target, path)).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(Refusal::NobodyThere)) => Ok(None),
        Ok(Err(Refusal::Denied(error))) => Err(fail(ErrorKind::Denied, "may not be asked".into()).with_source(error)),
        Ok(Err(Refusal::TooLong)) => Err(fail(ErrorKind::Unavailable, "answers with more than 1 MiB".into())),
        Ok(Err(Refusal::Failed(error))) => {
            Err(fail(ErrorKind::Unavailable, "does not answer as it should".into()).with_source(error))
        }
        Err(_) => Err(fail(ErrorKind::Timeout, format!("has not answered within {deadline:?}"))
            .with_effect(crate::domain::Effect::None)),
    }
}

fn describe(target: &HttpTarget) -> String {
    match target {
        HttpTarget::Unix(path) => path.clone(),
        HttpTarget::Loopback(port) => format!("127.0.0.1:{port}"),
    }
}

enum Refusal {
    NobodyThere,
    Denied(io::Error),
    TooLong,
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NobodyThere,
            io::ErrorKind::PermissionDenied => Self::Denied(error),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<hyper::Error> for Refusal {
    fn from(error: hyper::Error) -> Self {
        Self::Failed(error.into())
    }
}

async fn ask(target: &HttpTarget, path: &str) -> Result<HttpAnswer, Refusal> {
    match target {
        HttpTarget::Unix(socket) => exchange(UnixStream::connect(socket).await?, path).await,
        HttpTarget::Loopback(port) => exchange(TcpStream::connect(("127.0.0.1", *port)).await?, path).await,
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin>(stream: S, path: &str) -> Result<HttpAnswer, Refusal> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(READ_AHEAD).handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", "localhost")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Refusal::Failed(error.into()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        collect(response).await
    };
    // The connection is driven here and not in a task: cut off at the deadline, nothing of it lives on.
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            // It may end, having handed over the last bytes, before the answer is put together.
            let answer = answer.await;
            match (answer, ended) {
                (Err(Refusal::Failed(_)), Err(error)) => Err(error.into()),
                (answer, _) => answer,
            }
        }
    }
}

async fn collect(response: Response<Incoming>) -> Result<HttpAnswer, Refusal> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            if body.len() + data.len() > BODY_MAX {
                return Err(Refusal::TooLong);
            }
            body.extend_from_slice(&data);
        }
    }
    Ok(HttpAnswer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
