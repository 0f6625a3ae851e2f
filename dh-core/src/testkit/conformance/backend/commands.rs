//! Commands that really run.

use std::time::Duration;

use super::Outcome;
use super::bench::{Bench, check, refused};
use crate::domain::{ErrorKind, MachineState, StopMode};
use crate::ports::RunCommand;

pub(super) async fn a_command_ends_with_its_own_exit_code(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    for code in [0, 1, 7, 255] {
        let output = bench.shell(&machine, &format!("exit {code}")).await?;
        check!(output.exit_code == code, "exit {code} became {}", output.exit_code);
    }
    Ok(())
}

pub(super) async fn output_and_errors_are_kept_apart(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    // More than a pipe holds, on both, so that neither may wait for the other.
    let script = "i=0; while [ $i -lt 3000 ]; do echo 'out out out out out out out out out out'; \
                  echo 'err err err err err err err err err err' >&2; i=$((i+1)); done";
    let output = bench.shell(&machine, script).await?;
    check!(output.exit_code == 0, "it ended with {}: {}", output.exit_code, output.stderr);
    let (out, err) = (output.stdout.lines().count(), output.stderr.lines().count());
    check!((out, err) == (3000, 3000), "{out} lines of output and {err} of errors came, 3000 each were printed");
    check!(!output.stdout.contains("err") && !output.stderr.contains("out"), "they are mixed up");
    Ok(())
}

pub(super) async fn a_command_reads_what_it_is_given(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let given = "line of text, ünïcode\n".repeat(10_000);
    let output = bench.command(&machine, &["cat"], given.as_bytes()).await?;
    check!(output.stdout == given, "{} of {} bytes came back", output.stdout.len(), given.len());
    let output = bench.command(&machine, &["cat"], b"").await?;
    check!(output.stdout.is_empty(), "from nothing came {:?}", output.stdout);
    Ok(())
}

pub(super) async fn arguments_arrive_unchanged(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let words = ["two words", "$HOME", "'quoted'", "back\\slash", "", "a;b|c&d", "*", "-n", "é"];
    let argv: Vec<&str> = ["printf", "<%s>"].into_iter().chain(words).collect();
    let output = bench.command(&machine, &argv, b"").await?;
    let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
    check!(output.stdout == expected, "{expected:?} became {:?}", output.stdout);
    Ok(())
}

pub(super) async fn a_command_ended_by_a_signal_says_which(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let output = bench.shell(&machine, "kill -TERM $$").await?;
    check!(output.exit_code == 128 + 15, "SIGTERM became {}", output.exit_code);
    Ok(())
}

pub(super) async fn a_command_that_takes_too_long_is_killed(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let request = RunCommand {
        machine: machine.clone(),
        argv: ["sh", "-c", "echo $$ >\"$HOME/late\"; exec sleep 3600"].map(str::to_owned).to_vec(),
        stdin: Vec::new(),
        timeout: Duration::from_secs(1),
    };
    refused(bench.backend().run_command(request).await, ErrorKind::Timeout)?;
    // A process that has ended may still wait for its parent to take notice.
    let look = "pid=$(cat \"$HOME/late\"); ! kill -0 $pid 2>/dev/null || grep -q '^State:.Z' /proc/$pid/status";
    let ended = bench.until("the command that took too long has ended", async || {
        Ok((bench.shell(&machine, look).await?.exit_code == 0).then_some(()))
    });
    Ok(ended.await?)
}

pub(super) async fn a_program_that_is_not_there_fails_and_is_no_error_of_the_call(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let output = bench.command(&machine, &["no-such-program-anywhere"], b"").await?;
    check!(output.exit_code == 127, "it ended with {}", output.exit_code);
    Ok(())
}

pub(super) async fn the_boot_disk_keeps_its_files_over_a_stop(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let output = bench.shell(&machine, "echo kept >\"$HOME/kept\" && sync").await?;
    check!(output.exit_code == 0, "nothing can be written: {}", output.stderr);
    bench.backend().stop_machine(&machine, StopMode::Stop).await?;
    bench.until_state(&machine, MachineState::Stopped).await?;
    bench.backend().start_machine(&machine).await?;
    bench.until_state(&machine, MachineState::Running).await?;
    let output = bench.shell(&machine, "cat \"$HOME/kept\"").await?;
    check!(output.stdout == "kept\n", "the file holds {:?} now", output.stdout);
    Ok(())
}

pub(super) async fn a_process_lives_through_hibernation(bench: &Bench) -> Outcome {
    let machine = bench.running_machine().await?.id;
    let begin = "sleep 3600 </dev/null >/dev/null 2>&1 & echo $! >\"$HOME/sleeper\"";
    check!(bench.shell(&machine, begin).await?.exit_code == 0, "no process can be left in the background");
    let lives = "kill -0 \"$(cat \"$HOME/sleeper\")\"";
    check!(bench.shell(&machine, lives).await?.exit_code == 0, "it did not outlive its command");
    bench.backend().stop_machine(&machine, StopMode::Hibernate).await?;
    bench.until_state(&machine, MachineState::Hibernated).await?;
    bench.backend().start_machine(&machine).await?;
    bench.until_state(&machine, MachineState::Running).await?;
    let output = bench.shell(&machine, lives).await?;
    check!(output.exit_code == 0, "it is gone: {}", output.stderr);
    Ok(())
}
