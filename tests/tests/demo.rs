//! The demonstration of the README, as a test.

use std::path::Path;
use std::process::Command;

#[test]
fn the_demonstration_runs_from_launch_to_nothing_left() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let output =
        Command::new("bash").arg(root.join("scripts/demo.sh")).env("DH_PROGRAMS", dh_tests::programs()).output();
    let ran = dh_tests::Ran::from(output.expect("bash starts")).ok();
    for said in ["Engine ready", "attached successfully", "Coffee lock set", "idle", "Studio detached", "terminat"] {
        assert!(
            ran.stdout.contains(said) || ran.stderr.contains(said),
            "{said:?} is missing from:\n{}{}",
            ran.stdout,
            ran.stderr
        );
    }
}
