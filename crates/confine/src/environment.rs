//! Which variables a confined program does not get: what leads to a proxy, another name service, a service elsewhere, or another
//! program's service.
//!
//! Dropping a variable stops accidents, not intent: a program may know an address without being told. It is the lowest level of
//! the ladder ([`crate::Level::Environment`]) and belongs to every other level, too. A program cannot safely change its own
//! environment: whoever starts it does ([`clean`]), with names that it gives, and [`crate::apply`] looks up whether that was done
//! ([`left`]), in what the kernel keeps of the start.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Why a variable is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Names a proxy, through which a program reaches what it could not reach itself.
    Proxy,
    /// Changes how names become addresses: resolver(5), host.conf(5).
    NameService,
    /// Set for a service elsewhere: a hub, a cloud, an index of packages.
    Service,
    /// Tells a library where to send what it measures.
    Telemetry,
    /// A key or a token by its name: worth something to whoever gets it out.
    Secret,
    /// The way to another program of the user that is not confined: an agent, a desktop, a container engine.
    LocalService,
}

impl Reason {
    /// The reason in one sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Proxy => "names a proxy",
            Self::NameService => "changes how names become addresses",
            Self::Service => "is for a service elsewhere",
            Self::Telemetry => "says where measurements are sent",
            Self::Secret => "is a key or a token by its name",
            Self::LocalService => "leads to a program that is not confined",
        }
    }
}

/// How a row of the table knows a name. Names are compared in upper case: curl, Python and Go read `https_proxy` and
/// `HTTPS_PROXY` alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The whole name.
    Name(&'static str),
    /// Its beginning.
    Begins(&'static str),
    /// Its end.
    Ends(&'static str),
}

use Form::{Begins, Ends, Name};

/// What is kept although a row below would drop it.
pub const KEPT: [(&str, &str); 4] = [
    ("NO_PROXY", "names what needs no proxy, and no proxy is left"),
    ("HF_HUB_OFFLINE", "tells libraries to stay here"),
    ("HF_DATASETS_OFFLINE", "tells libraries to stay here"),
    ("WANDB_DISABLED", "tells a library to stay silent"),
];

/// What is dropped. The first row that knows a name says why.
pub const DROPPED: [(Form, Reason); 75] = [
    (Ends("_PROXY"), Reason::Proxy),
    (Ends("_PROXY_URL"), Reason::Proxy),
    (Name("PROXY"), Reason::Proxy),
    (Name("SOCKS_SERVER"), Reason::Proxy),
    (Name("SOCKS5_SERVER"), Reason::Proxy),
    (Name("LOCALDOMAIN"), Reason::NameService),
    (Name("RES_OPTIONS"), Reason::NameService),
    (Name("HOSTALIASES"), Reason::NameService),
    (Begins("RESOLV_"), Reason::NameService),
    (Begins("HF_"), Reason::Service),
    (Begins("HUGGING_FACE_"), Reason::Service),
    (Begins("HUGGINGFACE_"), Reason::Service),
    (Begins("OPENAI_"), Reason::Service),
    (Begins("ANTHROPIC_"), Reason::Service),
    (Begins("COHERE_"), Reason::Service),
    (Begins("MISTRAL_API_"), Reason::Service),
    (Begins("REPLICATE_"), Reason::Service),
    (Begins("AWS_"), Reason::Service),
    (Begins("AMAZON_"), Reason::Service),
    (Begins("SAGEMAKER_"), Reason::Service),
    (Begins("AZURE_"), Reason::Service),
    (Begins("AZUREML_"), Reason::Service),
    (Begins("ARM_CLIENT_"), Reason::Service),
    (Begins("GOOGLE_"), Reason::Service),
    (Begins("GCLOUD_"), Reason::Service),
    (Begins("GCP_"), Reason::Service),
    (Begins("CLOUDSDK_"), Reason::Service),
    (Begins("NGC_"), Reason::Service),
    (Begins("NVIDIA_API_"), Reason::Service),
    (Begins("KAGGLE_"), Reason::Service),
    (Begins("MODELSCOPE_"), Reason::Service),
    (Begins("GITHUB_"), Reason::Service),
    (Begins("GITLAB_"), Reason::Service),
    (Begins("GH_"), Reason::Service),
    (Begins("S3_"), Reason::Service),
    (Begins("PIP_"), Reason::Service),
    (Begins("TWINE_"), Reason::Service),
    (Begins("CARGO_REGISTR"), Reason::Service),
    (Begins("NPM_CONFIG_"), Reason::Service),
    (Ends("_INDEX_URL"), Reason::Service),
    (Begins("WANDB_"), Reason::Telemetry),
    (Begins("COMET_"), Reason::Telemetry),
    (Begins("NEPTUNE_"), Reason::Telemetry),
    (Begins("MLFLOW_"), Reason::Telemetry),
    (Begins("CLEARML_"), Reason::Telemetry),
    (Begins("TRAINS_"), Reason::Telemetry),
    (Begins("SENTRY_"), Reason::Telemetry),
    (Begins("POSTHOG_"), Reason::Telemetry),
    (Begins("OTEL_"), Reason::Telemetry),
    (Begins("DATADOG_"), Reason::Telemetry),
    (Begins("DD_"), Reason::Telemetry),
    (Begins("NEW_RELIC_"), Reason::Telemetry),
    (Begins("HONEYCOMB_"), Reason::Telemetry),
    (Begins("LANGCHAIN_"), Reason::Telemetry),
    (Begins("LANGSMITH_"), Reason::Telemetry),
    (Ends("_DSN"), Reason::Telemetry),
    (Ends("_API_KEY"), Reason::Secret),
    (Ends("_API_TOKEN"), Reason::Secret),
    (Ends("_ACCESS_KEY"), Reason::Secret),
    (Ends("_ACCESS_KEY_ID"), Reason::Secret),
    (Ends("_SECRET_KEY"), Reason::Secret),
    (Ends("_TOKEN"), Reason::Secret),
    (Ends("_SECRET"), Reason::Secret),
    (Ends("_PASSWORD"), Reason::Secret),
    (Ends("_CREDENTIALS"), Reason::Secret),
    (Ends("_WEBHOOK_URL"), Reason::Secret),
    (Name("SLURM_JWT"), Reason::Secret),
    (Name("SSH_AUTH_SOCK"), Reason::LocalService),
    (Name("GPG_AGENT_INFO"), Reason::LocalService),
    (Name("DBUS_SESSION_BUS_ADDRESS"), Reason::LocalService),
    (Name("DBUS_SYSTEM_BUS_ADDRESS"), Reason::LocalService),
    (Name("DISPLAY"), Reason::LocalService),
    (Name("WAYLAND_DISPLAY"), Reason::LocalService),
    (Name("DOCKER_HOST"), Reason::LocalService),
    (Name("CONTAINER_HOST"), Reason::LocalService),
];

/// The names of an environment, each on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// What a confined program gets, in the order given.
    pub kept: Vec<OsString>,
    /// What it does not get, and why.
    pub dropped: Vec<(OsString, Reason)>,
}

/// Why a variable of this name is dropped, or `None` when it is kept.
pub fn reason(name: &OsStr) -> Option<Reason> {
    let upper = name.to_string_lossy().to_uppercase();
    if KEPT.iter().any(|(kept, _)| *kept == upper) {
        return None;
    }
    let knows = |form: &Form| match *form {
        Name(whole) => upper == whole,
        Begins(start) => upper.starts_with(start),
        Ends(end) => upper.ends_with(end),
    };
    DROPPED.iter().find(|(form, _)| knows(form)).map(|(_, reason)| *reason)
}

/// Puts each name on its side.
pub fn sort(names: impl IntoIterator<Item = OsString>) -> Sorted {
    let mut sorted = Sorted::default();
    for name in names {
        match reason(&name) {
            Some(reason) => sorted.dropped.push((name, reason)),
            None => sorted.kept.push(name),
        }
    }
    sorted
}

/// What Open MPI is told when it runs confined: ranks of one machine copy through shared memory. Its other way reads another
/// process's memory, which is closed, and it complains of every message before it takes this one.
pub const FOR_OPEN_MPI: [(&str, &str); 1] = [("OMPI_MCA_btl_vader_single_copy_mechanism", "none")];

/// Takes what leads out from the environment that a command hands on; `names` are those that it would have. What was taken, and
/// why.
pub fn clean(command: &mut Command, names: impl IntoIterator<Item = OsString>) -> Vec<(OsString, Reason)> {
    let dropped = sort(names).dropped;
    for (name, _) in &dropped {
        command.env_remove(name);
    }
    dropped
}

/// The names that lead out and were in this process's environment when its program started (`/proc/self/environ`, proc(5)); what
/// it has set since is not seen.
///
/// # Errors
/// When /proc cannot be read.
pub fn left() -> std::io::Result<Vec<String>> {
    Ok(left_in(&std::fs::read("/proc/self/environ")?))
}

fn left_in(block: &[u8]) -> Vec<String> {
    let names = block.split(|byte| *byte == 0).filter_map(|entry| entry.split(|byte| *byte == b'=').next());
    let names = names.map(OsStr::from_bytes).filter(|name| reason(name).is_some());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(name: &str) -> Option<Reason> {
        reason(OsStr::new(name))
    }

    #[test]
    fn proxies_are_known_in_every_spelling() {
        for name in ["http_proxy", "HTTPS_PROXY", "Ftp_Proxy", "all_proxy", "RSYNC_PROXY", "grpc_proxy", "SOCKS_SERVER"] {
            assert_eq!(why(name), Some(Reason::Proxy), "{name}");
        }
    }

    #[test]
    fn each_reason_has_names() {
        let cases = [
            ("LOCALDOMAIN", Reason::NameService),
            ("RES_OPTIONS", Reason::NameService),
            ("HOSTALIASES", Reason::NameService),
            ("RESOLV_HOST_CONF", Reason::NameService),
            ("HF_TOKEN", Reason::Service),
            ("HF_ENDPOINT", Reason::Service),
            ("AWS_SECRET_ACCESS_KEY", Reason::Service),
            ("GOOGLE_APPLICATION_CREDENTIALS", Reason::Service),
            ("NVIDIA_API_KEY", Reason::Service),
            ("WANDB_BASE_URL", Reason::Telemetry),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", Reason::Telemetry),
            ("SOMETHING_API_KEY", Reason::Secret),
            ("SLURM_JWT", Reason::Secret),
            ("SSH_AUTH_SOCK", Reason::LocalService),
        ];
        for (name, reason) in cases {
            assert_eq!(why(name), Some(reason), "{name}");
        }
    }

    #[test]
    fn what_a_run_needs_is_kept() {
        let needed = [
            "PATH",
            "HOME",
            "LD_LIBRARY_PATH",
            "OMP_NUM_THREADS",
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA_VISIBLE_DEVICES",
            "NCCL_SOCKET_IFNAME",
            "OMPI_MCA_btl",
            "PMIX_RANK",
            "SLURM_JOB_ID",
            "SLURM_CONF",
            "SIROCCO_MPIRUN",
            "TMPDIR",
            "NO_PROXY",
            "no_proxy",
            "HF_HUB_OFFLINE",
        ];
        for name in needed {
            assert_eq!(why(name), None, "{name}");
        }
    }

    #[test]
    fn every_name_is_on_one_side_and_order_is_kept() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = OsString::from_vec(vec![b'X', 0xff]);
        let names: Vec<OsString> = vec!["PATH".into(), "https_proxy".into(), odd.clone(), "HOME".into()];
        let sorted = sort(names);
        assert_eq!(sorted.kept, vec![OsString::from("PATH"), odd, "HOME".into()]);
        assert_eq!(sorted.dropped, vec![("https_proxy".into(), Reason::Proxy)]);
    }

    #[test]
    fn what_is_left_is_found_in_the_block_of_the_kernel() {
        assert_eq!(
            left_in(b"PATH=/bin\0https_proxy=http://192.0.2.1\0=odd\0\0HF_TOKEN=\0NO_PROXY=*\0"),
            ["https_proxy", "HF_TOKEN"]
        );
        assert_eq!(left_in(b""), Vec::<String>::new());
    }

    #[test]
    fn a_command_is_started_without_it() {
        let mut command = Command::new("env");
        command.env("https_proxy", "http://192.0.2.1").env("SIROCCO_TEST", "kept");
        let dropped = clean(&mut command, ["https_proxy".into(), "SIROCCO_TEST".into()]);
        assert_eq!(dropped, [("https_proxy".into(), Reason::Proxy)]);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(said.contains("SIROCCO_TEST=kept") && !said.contains("https_proxy"), "{said}");
        for (name, _) in FOR_OPEN_MPI {
            assert_eq!(why(name), None, "{name}");
        }
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (index, (form, _)) in DROPPED.iter().enumerate() {
            let name = match *form {
                Name(whole) => whole.to_owned(),
                Begins(start) => format!("{start}XX"),
                Ends(end) => format!("XX{end}"),
            };
            let first = DROPPED.iter().position(|(form, _)| match *form {
                Name(whole) => name == whole,
                Begins(start) => name.starts_with(start),
                Ends(end) => name.ends_with(end),
            });
            assert_eq!(first, Some(index), "{name}");
        }
    }
}
