//! The program: one file for each command, and what they share.
//!
//! Data goes to the named file or to standard output, messages to standard error. A command returns a [`Status`] or an
//! [`Error`], which is shown here, and nowhere else.

mod audit;
mod compile;
mod coverage;
mod doctor;
mod dot;
mod explain;
mod flags;
mod inputs;
mod inspect;
mod opt;
mod output;
mod passes;
mod paths;
mod plan;
mod promises;
mod rules;
mod run;
mod tokens;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Status};

/// Compiles ONNX models into relevance graphs (layer-wise relevance propagation) and runs them.
#[derive(Debug, Parser)]
#[command(
    name = "lrpc",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 good, 1 a finding, 2 usage, 3 model or input rejected, 4 no rule or kernel, \
                  5 NaN or infinity, 6 a limit, 7 no such device, 70 a bug of lrpc."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compile(compile::Arguments),
    Inspect(inspect::Arguments),
    Run(run::Arguments),
    Explain(Box<explain::Arguments>),
    Coverage(coverage::Arguments),
    Rules(rules::Arguments),
    Plan(plan::Arguments),
    Opt(opt::Arguments),
    Doctor(doctor::Arguments),
}

impl Command {
    fn run(self) -> Result<Status, Error> {
        match self {
            Command::Compile(arguments) => compile::run(&arguments),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Run(arguments) => run::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Coverage(arguments) => coverage::run(&arguments),
            Command::Rules(arguments) => rules::run(&arguments),
            Command::Plan(arguments) => plan::run(&arguments),
            Command::Opt(arguments) => opt::run(&arguments),
            Command::Doctor(arguments) => doctor::run(&arguments),
        }
    }
}

/// Reads the command line, runs the command and shows what went wrong.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        output::message(&format!(
            "error: this is a bug of lrpc, please report it: {}{}",
            text.unwrap_or("unknown"),
            place.unwrap_or_default()
        ));
    }));
    let status = std::panic::catch_unwind(|| match Cli::try_parse() {
        Ok(cli) => settle(cli.command.run()),
        Err(error) => {
            // The help goes to standard output and is no error; a reader who has had enough of it is none either.
            let _ = error.print();
            if error.use_stderr() { Status::Usage } else { Status::Good }
        }
    });
    ExitCode::from(status.unwrap_or(Status::Bug) as u8)
}

fn settle(result: Result<Status, Error>) -> Status {
    match result {
        Ok(status) => status,
        // `lrpc inspect … | head`: whoever reads has had enough.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Status::Good,
        Err(error) => {
            output::error(&error);
            error.status()
        }
    }
}
