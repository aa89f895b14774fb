//! The binary `bowline`.

fn main() -> std::process::ExitCode {
    bowline::cli::main()
}
