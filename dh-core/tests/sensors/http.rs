//! The container sensor against a real socket that answers like Docker, well and badly.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::domain::{Activity, MachineId, Reading};
use dh_core::ports::{Host, HttpTarget};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{DockerSensor, Sweep};

use crate::support::{context, lines};

/// What the service sends, and whether it closes afterwards.
enum Answer {
    Send(Vec<u8>),
    /// Sends this and then nothing more, holding the connection.
    Stall(Vec<u8>),
}

/// Serves one answer to every request, on `root/run/docker.sock`, for as long as the test's process lives.
fn serve(root: &Path, answer: Answer) {
    std::fs::create_dir_all(root.join("run")).unwrap();
    let listener = UnixListener::bind(root.join("run/docker.sock")).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 1_024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            assert!(request.starts_with(b"GET /containers/json HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
            match &answer {
                Answer::Send(bytes) => drop(stream.write_all(bytes)),
                Answer::Stall(bytes) => {
                    let _ = stream.write_all(bytes);
                    held.push(stream);
                }
            }
        }
    });
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn host(root: &Path) -> Arc<ProcHost> {
    let machine = MachineId::new("i-0123456789abcdef0").unwrap();
    let scope = Scope::Descendants { of: std::process::id(), root: root.into(), machine };
    Arc::new(ProcHost::new(scope, root.join("coffee")).with_http_deadline(Duration::from_millis(300)))
}

async fn look(answer: Answer) -> Reading {
    let root = tempfile::tempdir().unwrap();
    serve(root.path(), answer);
    Sweep::new(vec![Arc::new(DockerSensor)]).run(&context(host(root.path()))).await.remove(0)
}

const TRAINING: &str = r#"[{"Id":"abc","Names":["/training"],"Image":"pytorch","Labels":{},"State":"running"}]"#;

#[tokio::test]
async fn a_running_container_is_work() {
    let reading = look(Answer::Send(ok(TRAINING))).await;
    assert_eq!(
        (reading.activity, lines(&reading, "containers")),
        (Activity::Active, vec!["training (pytorch)".into()])
    );
}

#[tokio::test]
async fn chunks_and_a_body_without_length_are_read() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &TRAINING[..5],
        TRAINING.len() - 5,
        &TRAINING[5..]
    );
    assert!(look(Answer::Send(chunked.into())).await.is_active());
    assert!(look(Answer::Send(format!("HTTP/1.0 200 OK\r\n\r\n{TRAINING}").into())).await.is_active());
}

#[tokio::test]
async fn faulty_answers_read_unknown_with_the_socket_named() {
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{TRAINING}");
    let mut huge = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n[".to_vec();
    huge.resize(2_000_050, b' ');
    for (what, answer) in [
        ("cut off", Answer::Send(cut.into())),
        ("closed at once", Answer::Send(Vec::new())),
        ("not HTTP", Answer::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
        ("an error", Answer::Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ("too long", Answer::Send(huge)),
        ("no JSON", Answer::Send(ok("<html>"))),
        ("silence", Answer::Stall(Vec::new())),
        ("half a head", Answer::Stall(b"HTTP/1.1 200 OK\r\nContent-".to_vec())),
        ("half a body", Answer::Stall(format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{TRAINING}").into())),
    ] {
        let began = Instant::now();
        let reading = look(answer).await;
        assert_eq!(reading.activity, Activity::Unknown, "{what}: {reading:?}");
        assert!(reading.reason.contains("docker.sock"), "{what}: {reading:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
    }
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_no_container_engine() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("run")).unwrap();
    drop(UnixListener::bind(root.path().join("run/docker.sock")).unwrap());
    let host = host(root.path());
    assert_eq!(host.container_sockets().unwrap().iter().filter(|socket| socket.label.is_none()).count(), 1);
    let reading = Sweep::new(vec![Arc::new(DockerSensor)]).run(&context(host.clone())).await.remove(0);
    assert_eq!(reading.reason, "No workload containers");
    let missing = HttpTarget::Unix(root.path().join("run/nothing.sock").to_str().unwrap().into());
    assert_eq!(host.http_get(&missing, "/containers/json").await.unwrap(), None);
}

#[tokio::test]
async fn a_service_on_loopback_is_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1_024];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno").unwrap();
    });
    let answer = host.http_get(&HttpTarget::Loopback(port), "/health").await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "no"));
    server.join().unwrap();
    // The port just left may be another test's by now; nothing listens on the first.
    assert_eq!(host.http_get(&HttpTarget::Loopback(1), "/health").await.unwrap(), None);
    assert!(host.http_get(&HttpTarget::Loopback(port), "health\r\nX: y").await.is_err());
}
