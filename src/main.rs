//! The `weir` binary: subcommands, and the only place that names concrete backends (`wiring.rs`).

mod bench;
mod client;
mod command;
mod config;
mod telemetry;
mod top;
mod wiring;

use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// One allocator that gives memory back under the churn of connections, and builds in a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Realtime events: publish, keep, deliver, resume.
#[derive(Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    /// The settings file; weir.toml here or /etc/weir/weir.toml when absent.
    #[arg(long, env = "WEIR_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start here with a demo tenant and an API key, everything in ./weir-data.
    Dev,
    /// Start a node.
    Serve,
    /// Bring the database's tables up to date.
    Migrate,
    /// Find or make a tenant and a project, and make an API key with all scopes.
    Bootstrap(command::setup::BootstrapArgs),
    /// API keys.
    #[command(subcommand)]
    Keys(command::setup::KeysCommand),
    /// The audit trail.
    #[command(subcommand)]
    Audit(command::audit::AuditCommand),
    /// The embedded event log, while no server has it.
    #[command(subcommand)]
    Log(command::log::LogCommand),
    /// People who sign in.
    #[command(subcommand)]
    Users(command::users::UsersCommand),
    /// Publish an event, or one for each line of standard input.
    Publish(client::publish::Args),
    /// Watch events as they come.
    Subscribe(client::subscribe::Args),
    /// Read history.
    Replay(client::replay::Args),
    /// Check configuration, database and event log, and say what to do.
    Doctor(command::doctor::Args),
    /// Watch nodes live: connections, rates, times, tenants, alerts.
    Top(top::Args),
    /// Measure a server.
    Bench(bench::Args),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the GraphQL schema.
    Schema,
    /// Print the error codes as Markdown.
    Errors,
    /// Print what can be measured of a node as Markdown.
    Metrics,
    /// Print who may do what as Markdown.
    Permissions,
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    // Two TLS providers could be in the dependency graph; naming one is the only way to have a default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            command::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Dev => command::serve::run(config, command::serve::Mode::Dev),
        Command::Serve => command::serve::run(config, command::serve::Mode::Serve),
        Command::Migrate => command::setup::migrate(config),
        Command::Bootstrap(args) => command::setup::bootstrap(config, &args),
        Command::Keys(args) => command::setup::keys(config, args),
        Command::Audit(args) => command::audit::run(config, args),
        Command::Log(args) => command::log::run(config, args),
        Command::Users(args) => command::users::run(config, args),
        Command::Publish(args) => command::block_on(client::publish::run(args)),
        Command::Subscribe(args) => command::block_on(client::subscribe::run(args)),
        Command::Replay(args) => command::block_on(client::replay::run(args)),
        Command::Doctor(args) => command::doctor::run(config, &args),
        Command::Top(args) => command::block_on(top::run(args)),
        Command::Bench(args) => command::block_on(bench::run(args)),
        Command::Openapi => command::print(&weir_gateway::openapi::json()),
        Command::Metrics => command::print(&weir_gateway::metrics_document()),
        Command::Permissions => command::print(&command::permissions::markdown()),
        Command::Schema => command::print(&weir_gateway::graphql::sdl()),
        Command::Errors => command::print(&command::errors::markdown()),
        Command::Completions { shell } => {
            // It panics where it cannot write, so it writes where it can.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            command::print(&String::from_utf8(script)?)
        }
    }
}
