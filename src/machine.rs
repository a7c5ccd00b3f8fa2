//! What this machine has: cores and memory.

use std::path::Path;

/// Number of cores that the process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that the process may use, in bytes: the machine's, or less where the process's control group is limited.
/// `None` where the system does not say.
pub fn memory_bytes() -> Option<u64> {
    let machine = read_field(Path::new("/proc/meminfo"), "MemTotal:").and_then(|kib| kib.checked_mul(1024));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

/// Memory that is free or can be freed, in bytes.
pub fn available_bytes() -> Option<u64> {
    read_field(Path::new("/proc/meminfo"), "MemAvailable:").and_then(|kib| kib.checked_mul(1024))
}

fn read_field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// 90 % of the memory: what a run may take unless told otherwise.
pub fn default_memory_limit() -> Option<u64> {
    memory_bytes().map(|bytes| bytes / 10 * 9)
}

/// `bytes` in the largest binary unit in which it is at least one.
pub fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or("B");
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A size such as `2GiB`, `500 MB`, `1024`.
///
/// # Errors
/// Text that is no size.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 12] = [
        ("tib", 1 << 40),
        ("gib", 1 << 30),
        ("mib", 1 << 20),
        ("kib", 1 << 10),
        ("tb", 1_000_000_000_000),
        ("gb", 1_000_000_000),
        ("mb", 1_000_000),
        ("kb", 1_000),
        ("g", 1 << 30),
        ("m", 1 << 20),
        ("k", 1 << 10),
        ("b", 1),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((&lower, 1));
    let number: f64 = number.trim().parse().map_err(|_| format!("`{text}` is no size; write e.g. 2GiB or 500MB"))?;
    let bytes = number * factor as f64;
    if !(bytes.is_finite() && (0.0..1.8e19).contains(&bytes)) {
        return Err(format!("`{text}` is out of range"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let cases = [("2GiB", 2 << 30), ("500 MB", 500_000_000), ("1024", 1024), ("1.5k", 1536), ("0.5g", 1 << 29)];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text).unwrap_or(0), bytes, "{text}");
        }
        assert!(parse_bytes("-1").is_err() && parse_bytes("many").is_err() && parse_bytes("nan").is_err());
        assert_eq!(bytes_in_words(512), "512 B");
        assert_eq!(bytes_in_words(3 << 30), "3.0 GiB");
    }
}
