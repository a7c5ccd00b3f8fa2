//! Where models lie that are too many or too large for the repository.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder named by `LRPC_SHARED`, else `../shared` beside the repository. `None` is said aloud, past the capture
/// of the test harness.
#[allow(clippy::explicit_write, reason = "the harness would swallow what is printed")]
pub fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("LRPC_SHARED").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let path = folder.display();
    writeln!(std::io::stderr(), "SKIPPED: there are no models at {path}; name their folder by LRPC_SHARED").unwrap();
    None
}
