//! `dh engine resize`.

use dh_core::domain::{EngineState, OperationSpec};
use dh_core::logic::may_operate;
use dh_core::ports::SubmitOptions;

use super::access::ssh_command;
use super::{confirm_detaching, tell_detached};
use crate::cli::ResizeEngine;
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;
use crate::terminal::confirm;

pub async fn resize(context: &Context, args: &ResizeEngine) -> Result<(), Failure> {
    let view = context.control.engine(&args.one.engine).await?;
    let (name, size) = (&view.engine.name, args.size);
    let spec = OperationSpec::ResizeEngine { engine: name.clone(), size_gb: size, online: args.online };
    // A question whose yes is then refused is none. Where an operation holds the engine, it may yet change what it has.
    if view.engine.operation.is_none() {
        may_operate(&spec, &view.engine, view.machine.as_ref(), context.control.capabilities())?;
    }
    if !args.force {
        let question = format!("Resize boot disk of engine '{name}' from {} to {size}?", view.engine.boot_disk_gb);
        confirm(&context.screen, &*context.terminal, &question, "-f")?;
    }
    let detach_studios = !args.online && confirm_detaching(context, &view, args.force, "-f")?;
    let operation = operate::submit(context, spec, SubmitOptions { detach_studios }).await?;
    tell_detached(context, &view, detach_studios);
    context.screen.result(&format!("✓ Boot disk resize initiated for '{name}'"))?;
    if !args.online {
        if view.state != EngineState::Stopped {
            context.screen.result("  Engine will be stopped and restarted")?;
        }
        context.screen.result("  Filesystem will be automatically expanded")?;
    }
    let operation = operate::finish(context, &operation).await?;
    // Only a machine with a disk of its own has partitions to grow.
    if args.online && context.place.backend == "aws" {
        context.screen.result(&format!(
            "\n⚠ Manual filesystem expansion required:\n  {}\n  sudo growpart /dev/nvme0n1 1\n  sudo xfs_growfs /\n  df -h  # Verify new size",
            ssh_command(context, name.as_str())
        ))?;
    } else {
        context.screen.result(&format!("✓ Boot disk of '{name}' has {size}"))?;
    }
    operate::document(context, &operation).await
}
