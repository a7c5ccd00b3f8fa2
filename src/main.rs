//! The program `lrpc`.

fn main() -> std::process::ExitCode {
    lrpc::cli::main()
}
