//! The `daybook` program: see `daybook --help`.

fn main() -> std::process::ExitCode {
    daybook::cli::main()
}
