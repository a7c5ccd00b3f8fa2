//! Outputs that are checked before the work begins: that they can be made, and that no input is lost by them.

use std::path::Path;

use lrpc_ir::Diagnostic;

use super::output::is_stdout;
use crate::compile::composite_file;
use crate::data::check_folder;
use crate::error::Error;

/// An input in words, as `the model`, and its file.
pub(super) type Input<'a> = (&'a str, &'a Path);

/// Checks the path of an output before anything is computed for it.
///
/// # Errors
/// A folder that does not exist, and an output that is one of `inputs`.
pub(super) fn check_output(output: &Path, inputs: &[Input<'_>]) -> Result<(), Error> {
    if is_stdout(output) {
        return Ok(());
    }
    check_folder(output)?;
    // Where the output is not there yet, no input is.
    let Ok(written) = output.canonicalize() else { return Ok(()) };
    let lost = inputs.iter().find(|(_, input)| input.canonicalize().is_ok_and(|read| read == written));
    match lost {
        Some((what, input)) => {
            let message = format!("the output {} would overwrite {what}, {}", output.display(), input.display());
            Err(Diagnostic::request(message).help("give the output another name with --output").into())
        }
        None => Ok(()),
    }
}

/// The composite files among the values of `--rules`.
pub(super) fn composite_files(rules: &[String]) -> impl Iterator<Item = Input<'_>> {
    rules.iter().filter_map(|rule| composite_file(rule)).map(|(path, _)| ("a composite", Path::new(path)))
}
