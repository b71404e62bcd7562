//! `sirocco`: everything that a person types. Small, links no tensor code, starts on a login node.

mod allowed;
mod bundle;
mod chain;
mod cli;
mod commands;
mod confined;
mod evidence;
mod failure;
mod gate;
mod ledger;
mod machine;
mod output;
mod plan;
mod policy;
mod preflight;
mod programs;
mod quota;
mod report;
mod site;
mod train;
mod waiting;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::{BundleAction, Cli, Command, DataAction, KeysAction, LedgerAction, ModelAction, PolicyAction, SiteAction};
use failure::Failure;
use programs::{SERVER, TRAINER};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let as_json = wants_json(&cli.command);
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(failure.show(as_json)),
    }
}

/// One function for each command. The exit code is 0 for all but `train`, which can also stop early.
fn run(command: Command) -> Result<u8, Failure> {
    confined::apply(&command)?;
    match command {
        Command::Confined(passed) => confined::assist(&passed.arguments)?,
        Command::Init(arguments) => commands::init::run(&arguments)?,
        Command::Model(model) => commands::model::run(&model.action)?,
        Command::Tokenize(arguments) => commands::tokenize::run(&arguments)?,
        Command::Data(data) => commands::data::run(&data.action)?,
        Command::Check(arguments) => commands::check::run(&arguments)?,
        Command::Plan(arguments) => plan::run(&arguments)?,
        Command::Train(arguments) => return train::run(&arguments),
        Command::Submit(arguments) => chain::submit::run(&arguments)?,
        Command::Cancel(arguments) => chain::cancel::run(&arguments)?,
        Command::Job(arguments) => return chain::job::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments)?,
        Command::Watch(arguments) => watch::run(&arguments)?,
        Command::Logs(arguments) => commands::logs::run(&arguments)?,
        Command::Report(arguments) => report::run(&arguments)?,
        Command::Eval(passed) => return Err(programs::become_program(TRAINER, with_name("eval", passed.arguments))),
        Command::Export(passed) => {
            commands::export::look(&passed.arguments)?;
            return Err(programs::become_program(TRAINER, with_name("export", passed.arguments)));
        }
        Command::Serve(passed) => return Err(programs::become_program(SERVER, passed.arguments)),
        Command::Site(site) => site::run(&site.action)?,
        Command::Policy(policy) => return policy::run(&policy.action),
        Command::Keys(keys) => commands::keys::run(&keys.action)?,
        Command::Ledger(ledger) => ledger::run(&ledger.action)?,
        Command::Evidence(arguments) => evidence::run(&arguments)?,
        Command::Bundle(bundle) => bundle::run(&bundle.action)?,
        Command::Doctor(arguments) => commands::doctor::run(&arguments)?,
    }
    Ok(0)
}

fn with_name(command: &str, arguments: Vec<OsString>) -> impl Iterator<Item = OsString> {
    std::iter::once(OsString::from(command)).chain(arguments)
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Init(arguments) => arguments.json,
        Command::Model(model) => match &model.action {
            ModelAction::Inspect(arguments) | ModelAction::Verify(arguments) => arguments.json,
            ModelAction::Convert(arguments) => arguments.json,
        },
        Command::Data(data) => match &data.action {
            DataAction::Check(arguments) | DataAction::Report(arguments) => arguments.json,
            DataAction::Prepare(arguments) => arguments.spec.json,
        },
        Command::Check(arguments) => arguments.json,
        Command::Plan(arguments) => arguments.json,
        Command::Train(arguments) => arguments.json,
        Command::Submit(arguments) => arguments.json,
        Command::Cancel(arguments) => arguments.json,
        Command::Job(_) => false,
        Command::Status(arguments) => arguments.json,
        Command::Watch(arguments) => arguments.json,
        Command::Logs(arguments) => arguments.json,
        Command::Report(arguments) => arguments.json,
        Command::Site(site) => match &site.action {
            SiteAction::List(arguments) => arguments.json,
            SiteAction::Show(arguments) => arguments.json,
            SiteAction::Check(arguments) => arguments.json,
        },
        Command::Policy(policy) => match &policy.action {
            PolicyAction::Check(arguments) => arguments.json,
            PolicyAction::Explain(arguments) => arguments.json,
            PolicyAction::Test(arguments) => arguments.json,
            PolicyAction::Init(arguments) => arguments.json,
            PolicyAction::Sign(arguments) => arguments.json,
            PolicyAction::Approve(arguments) => arguments.json,
        },
        Command::Keys(keys) => match &keys.action {
            KeysAction::New(arguments) => arguments.json,
            KeysAction::Show(arguments) => arguments.json,
        },
        Command::Ledger(ledger) => match &ledger.action {
            LedgerAction::Verify(arguments) => arguments.json,
            LedgerAction::Show(arguments) => arguments.json,
            LedgerAction::Prove(arguments) => arguments.json,
        },
        Command::Evidence(arguments) => arguments.json,
        Command::Bundle(bundle) => match &bundle.action {
            BundleAction::Pack(arguments) => arguments.json,
            BundleAction::Open(arguments) => arguments.json,
            BundleAction::Check(arguments) => arguments.json,
        },
        Command::Doctor(arguments) => arguments.json,
        Command::Eval(passed) | Command::Export(passed) | Command::Serve(passed) | Command::Confined(passed) => {
            passed.arguments.iter().any(|word| word == "--json")
        }
        Command::Tokenize(arguments) => arguments.json,
    }
}

/// A command line that clap refuses, or one that only asks for help or the version.
fn refused(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the stream is closed.
    let _ = error.print();
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    if std::env::args_os().any(|word| word == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::usage(message).print_json();
    }
    ExitCode::from(2)
}
