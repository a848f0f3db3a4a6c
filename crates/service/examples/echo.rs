//! The smallest service: it is what the tests of this crate run as a process of its own.

use std::process::ExitCode;

use service::activation::Inherited;
use service::{Failure, Options};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Never finish after the signal
    #[arg(long)]
    stuck: bool,
}

fn main() -> ExitCode {
    service::main(|cli: Cli| {
        let inherited = Inherited::take().map_err(Failure::runtime)?;
        service::run(&cli.options, |process| async move {
            let mut reloads = process.reloads();
            process.ready(&format!("{} tcp, {} udp", inherited.tcp.len(), inherited.udp.len()));
            let counted = tokio::spawn(async move {
                while reloads.changed().await.is_ok() {
                    tracing::info!(count = *reloads.borrow(), "reloaded");
                }
            });
            process.stopped().await;
            if cli.stuck {
                std::future::pending::<()>().await;
            }
            counted.abort();
            Ok(())
        })
    })
}
