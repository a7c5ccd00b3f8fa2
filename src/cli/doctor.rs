//! `lrpc doctor`: what this machine has.

use clap::Args;
use serde_json::json;

use super::flags::Format;
use super::output;
use crate::error::{Error, Status};
use crate::machine::{self, bytes_in_words};

/// Show what this machine has and what the program will use of it
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Form of the report
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    let (cores, memory, available) = (machine::cores(), machine::memory_bytes(), machine::available_bytes());
    let limit = machine::default_memory_limit();
    let text = match arguments.format {
        Format::Json => {
            let value = json!({
                "version": env!("CARGO_PKG_VERSION"), "system": std::env::consts::OS, "processor": std::env::consts::ARCH,
                "cores": cores, "memory": memory, "memory_available": available, "memory_limit": limit,
                "devices": ["cpu"],
            });
            format!("{value}\n")
        }
        Format::Text => {
            let size = |bytes: Option<u64>| bytes.map_or("the system does not say".into(), bytes_in_words);
            format!(
                "lrpc       {} on {}, {}\ncores      {cores}\nmemory     {}, of which {} are available\n\
                 limit      {} for one run, unless --memory-limit says otherwise\ndevices    cpu\n\
                 gpu        not used: this build runs on the CPU alone\n",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH,
                size(memory),
                size(available),
                size(limit),
            )
        }
    };
    output::data(text.as_bytes())?;
    Ok(Status::Good)
}
