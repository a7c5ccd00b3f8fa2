//! The program as a user meets it: commands, files, messages and exit statuses, through the real binary.

mod commands;
mod compile;
mod explain;
mod inputs;
mod outputs;
mod refused;
mod run;
mod support;
