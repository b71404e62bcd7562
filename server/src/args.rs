//! The command line of `sirocco serve`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use sirocco_confine::Level;

const EXAMPLES: &str = "\
Examples:
  sirocco serve models/smollm2-135m
  sirocco serve models/smollm2-135m --adapter darija=exports/demo-adapter --listen 127.0.0.1:8080
  sirocco serve exports/letters --policy rules/ministry --facts facts.toml --purpose public-administration --site meluxina
  sirocco serve models/from-partner --trust keys/trusted
  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"model\": \"darija\", \"messages\": [{\"role\": \"user\", \"content\": \"Translate: good morning\"}]}'

When it is ready it prints `listening on http://HOST:PORT` on standard output. SIGTERM or ctrl-C lets running requests
finish (see --drain-seconds); a second one ends at once.

Before anything of a model or an adapter is used, its signature is verified, if it has one, and the policy is asked: serve for
the endpoint with the model, addAdapter for each adapter. Questions, answers, start and end stand in the ledger of the account
($XDG_STATE_HOME/sirocco/ledger), signed with the keys of the account ($XDG_CONFIG_HOME/sirocco/keys).
Exit code 3: the policy refuses; 4: a signature does not hold; 5: the ledger cannot be written.

With --json the line is {\"event\": \"listening\", \"address\": \"http://HOST:PORT\", \"models\": [NAME, …],
\"endpoint\": \"endpoint:NAME\", \"artefacts\": [{\"name\", \"artefact\", \"sha256\", \"signed_by\"}, …], \"ledger\": DIRECTORY}; signed_by
is null of what is not signed. An error is {\"error\": {\"kind\", \"message\", \"help\", \"exit_code\"}}.";

/// Serve a model over HTTP with OpenAI's API
#[derive(Debug, Clone, Parser)]
#[command(name = "sirocco-serve", bin_name = "sirocco serve", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Model directory in Hugging Face layout: a merged model, or the base of the adapters
    pub(crate) model: PathBuf,

    /// An adapter in PEFT layout, served under NAME; may be repeated
    #[arg(long = "adapter", value_name = "NAME=DIR", value_parser = parse_adapter)]
    pub(crate) adapters: Vec<(String, PathBuf)>,

    /// Name of the model in requests [default: the directory's name]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Policy that is asked: a directory of rules and facts, or the set that is compiled in and allows everything
    #[arg(long, value_name = "SET", default_value = sirocco_config::OPEN_POLICY)]
    pub(crate) policy: String,

    /// Facts about models and adapters of one's own, beside those of the policy; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) facts: Vec<PathBuf>,

    /// For what, by a name that the facts know
    #[arg(long, value_name = "NAME")]
    pub(crate) purpose: Option<String>,

    /// Where this machine is, by a name that the facts know
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) site: String,

    /// Directory of public keys whose signatures are believed [default: the account's own keys]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,

    /// Number format of the weights and of the matrix products
    #[arg(long, value_enum, default_value_t = Precision::Bf16)]
    pub(crate) dtype: Precision,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    pub(crate) listen: String,

    /// Threads for the computation [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub(crate) threads: Option<i32>,

    /// Requests that are generated in turn; others wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_concurrent: u32,

    /// Requests that may wait for their turn; more are answered with status 429
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65536))]
    pub(crate) max_waiting: u32,

    /// Largest request body in bytes; larger ones are answered with status 413
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub(crate) max_body: usize,

    /// Seconds that running requests have to finish after SIGTERM or ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain_seconds: u64,

    /// Least level of confinement, 0 to 3: 2 and more reach nobody, and only this port is reached; docs/confinement.md
    #[arg(long, value_name = "LEVEL", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=5))]
    pub(crate) confinement: u8,

    /// Events and errors as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The level that the server is to be confined to at least.
    pub(crate) fn confinement(&self) -> Level {
        Level::of_number(self.confinement).unwrap_or(Level::Site)
    }
}

/// The number formats that `--dtype` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 16-bit brain floating point
    Bf16,
    /// 32-bit floating point, for exact comparisons
    Fp32,
}

fn parse_adapter(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if is_name(name) && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err("expected NAME=DIR, such as darija=exports/demo-adapter".to_owned()),
    }
}

/// Whether `name` can stand for a model in a request and in a path.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent_and_the_defaults_are_loopback() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["sirocco serve", "models/m"]).unwrap();
        assert_eq!((args.listen.as_str(), args.dtype, args.drain_seconds), ("127.0.0.1:8000", Precision::Bf16, 30));
        assert!(args.adapters.is_empty() && !args.json);
        assert_eq!((args.policy.as_str(), args.site.as_str()), (sirocco_config::OPEN_POLICY, "local"));
        assert_eq!((args.facts.len(), &args.purpose, &args.trust), (0, &None, &None));
    }

    #[test]
    fn adapters_are_name_and_directory() {
        let args = Args::try_parse_from(["x", "m", "--adapter", "a=x/y", "--adapter", "b=z=1"]).unwrap();
        assert_eq!(args.adapters, [("a".into(), "x/y".into()), ("b".into(), "z=1".into())]);
        for wrong in ["a", "=x", "a=", "a b=x"] {
            let error = Args::try_parse_from(["x", "m", "--adapter", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("NAME=DIR"), "{error}");
        }
    }
}
