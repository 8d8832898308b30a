//! The thin binary: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    pgweir::cli::main()
}
