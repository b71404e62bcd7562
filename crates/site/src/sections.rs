//! One function for each section of a site file: which keys it has, and what each may be.
use std::collections::BTreeMap;

use toml::Value;

use crate::error::SiteError;
use crate::groups::{Disk, DiskKind, Energy, Internet, Modules, Mpi, MpiStart, Network, Outbound, Required, Software, Submit};
use crate::table::Table;
use crate::types::{Arch, Gpus, Partition, Qos, Scheduler, Site, Vendor};
use sirocco_config::WallTime;

pub(crate) fn text(table: &Table, key: &str, expected: &str) -> Result<String, SiteError> {
    table.text(key)?.ok_or_else(|| table.missing(key, expected))
}

/// Who the site is; everything else is still empty.
pub(crate) fn identity(table: &Table) -> Result<Site, SiteError> {
    let country = |value: &Value| {
        let code = value.as_str()?;
        (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())).then(|| code.to_owned())
    };
    let schedulers = [("slurm", Scheduler::Slurm), ("none", Scheduler::None)];
    let scheduler = table.word("scheduler", &schedulers)?;
    Ok(Site {
        name: text(table, "name", "the name of the file without .toml")?,
        title: text(table, "title", "the name that people use")?,
        operator: table.text("operator")?,
        country: table.map("country", "two capital letters of ISO 3166-1, such as \"LU\"", country)?,
        scheduler: scheduler.ok_or_else(|| table.missing("scheduler", "\"slurm\" or \"none\""))?,
        default_partition: table.text("default_partition")?,
        named_by: Vec::new(),
        partitions: Vec::new(),
        qos: Vec::new(),
        submit: None,
        network: None,
        mpi: None,
        software: None,
        modules: None,
        disk: None,
        internet: None,
        energy: None,
        notes: Vec::new(),
        sources: BTreeMap::new(),
    })
}

pub(crate) const PARTITION: [&str; 11] = [
    "nodes",
    "cores",
    "threads_per_core",
    "memory_gb",
    "arch",
    "gpus",
    "max_time",
    "max_nodes",
    "max_jobs",
    "shared",
    "cpu_bind",
];

pub(crate) fn partition(table: &Table, name: &str) -> Result<Partition, SiteError> {
    let arches = [Arch::X86_64, Arch::Aarch64].map(|arch| (arch.name(), arch));
    Ok(Partition {
        name: name.to_owned(),
        nodes: table.whole("nodes", 1)?,
        cores: table.whole("cores", 1)?,
        threads_per_core: table.whole("threads_per_core", 1)?,
        memory_gb: table.whole("memory_gb", 1)?,
        arch: table.word("arch", &arches)?,
        gpus: table.section("gpus")?.map(gpus).transpose()?,
        max_time: wall_time(table)?,
        max_nodes: table.whole("max_nodes", 1)?,
        max_jobs: table.whole("max_jobs", 1)?,
        shared: table.truth("shared")?,
        cpu_bind: table.text("cpu_bind")?,
    })
}

fn gpus(table: &Table) -> Result<Gpus, SiteError> {
    table.expect_keys(&["count", "vendor", "kind", "memory_gb"])?;
    let expected = "how many GPUs a node has; 0 where it has none";
    let count = table.whole("count", 0)?.ok_or_else(|| table.missing("count", expected))?;
    let vendor = table.word("vendor", &[("nvidia", Vendor::Nvidia), ("amd", Vendor::Amd)])?;
    if count > 0 && vendor.is_none() {
        return Err(table.missing("vendor", "\"nvidia\" or \"amd\", where there are GPUs"));
    }
    Ok(Gpus { count, vendor, kind: table.text("kind")?, memory_gb: table.whole("memory_gb", 1)? })
}

fn wall_time(table: &Table) -> Result<Option<WallTime>, SiteError> {
    let expected = "a time as Slurm writes it, such as \"2-00:00:00\" or \"06:00:00\"";
    table.map("max_time", expected, |value| value.as_str().and_then(WallTime::parse).filter(|time| time.seconds() > 0))
}

pub(crate) const QOS: [&str; 9] = [
    "max_time",
    "min_nodes",
    "max_nodes",
    "max_percent",
    "jobs_per_user",
    "nodes_per_user",
    "preemptible",
    "by_arrangement",
    "purpose",
];

pub(crate) fn qos(table: &Table, name: &str) -> Result<Qos, SiteError> {
    let percent = |value: &Value| u64::try_from(value.as_integer()?).ok().filter(|percent| (1..=100).contains(percent));
    Ok(Qos {
        name: name.to_owned(),
        max_time: wall_time(table)?,
        min_nodes: table.whole("min_nodes", 1)?,
        max_nodes: table.whole("max_nodes", 1)?,
        max_percent: table.map("max_percent", "a whole number from 1 to 100", percent)?,
        jobs_per_user: table.whole("jobs_per_user", 1)?,
        nodes_per_user: table.whole("nodes_per_user", 1)?,
        preemptible: table.truth("preemptible")?,
        by_arrangement: table.truth("by_arrangement")?,
        purpose: table.text("purpose")?,
    })
}

pub(crate) fn submit(table: &Table) -> Result<Submit, SiteError> {
    let options = table.texts("options")?;
    if options.iter().any(|option| !option.starts_with('-') || option.chars().any(char::is_whitespace)) {
        return Err(table.refuse("options", "options as sbatch takes them, such as \"--hint=nomultithread\""));
    }
    let request =
        |value: &Value| value.as_str().filter(|text| text.starts_with('-') && text.contains("{gpus}")).map(str::to_owned);
    Ok(Submit {
        required: table.words("required", &Required::ALL.map(|required| (required.name(), required)))?,
        options,
        account_form: table.text("account_form")?,
        whole_nodes: table.truth("whole_nodes")?,
        gpu_request: table.map("gpu_request", "an option with {gpus}, such as \"--gpus-per-node={gpus}\"", request)?,
    })
}

pub(crate) fn network(table: &Table) -> Result<Network, SiteError> {
    let interfaces = table.texts("interfaces")?;
    let plain = |name: &String| {
        let stem = name.strip_suffix('*').unwrap_or(name);
        !stem.is_empty() && stem.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    if !interfaces.iter().all(plain) {
        return Err(table.refuse("interfaces", "names of interfaces, such as \"ib0\", or beginnings of them, such as \"hsn*\""));
    }
    let environment = table.section("environment")?.map_or_else(|| Ok(Vec::new()), Table::free_texts)?;
    Ok(Network {
        fabric: table.text("fabric")?,
        ports: table.whole("ports", 1)?,
        port_gbit: table.whole("port_gbit", 1)?,
        interfaces,
        host_suffix: table.text("host_suffix")?,
        environment: environment.into_iter().collect(),
    })
}

pub(crate) fn mpi(table: &Table) -> Result<Mpi, SiteError> {
    let words = [("srun", MpiStart::Srun), ("pmix", MpiStart::Pmix), ("pmi2", MpiStart::Pmi2), ("mpirun", MpiStart::Mpirun)];
    let start = table.word("start", &words)?;
    Ok(Mpi { start: start.ok_or_else(|| table.missing("start", "\"srun\", \"pmix\", \"pmi2\" or \"mpirun\""))? })
}

pub(crate) fn software(table: &Table) -> Result<Software, SiteError> {
    Ok(Software {
        slurm: table.text("slurm")?,
        node_daemon: table.text("node_daemon")?,
        os: table.text("os")?,
        gpu_driver: table.text("gpu_driver")?,
    })
}

pub(crate) fn modules(table: &Table) -> Result<Modules, SiteError> {
    Ok(Modules { load: table.texts("load")?, on_login_nodes: table.truth("on_login_nodes")? })
}

pub(crate) fn disk(table: &Table) -> Result<Disk, SiteError> {
    let kind = table.word("kind", &[("ssd", DiskKind::Ssd), ("memory", DiskKind::Memory)])?;
    let path = |value: &Value| value.as_str().filter(|path| path.starts_with('/') && !path.contains('\0')).map(str::to_owned);
    Ok(Disk {
        kind: kind.ok_or_else(|| table.missing("kind", "\"ssd\" or \"memory\""))?,
        gb: table.whole("gb", 1)?,
        path: table.map("path", "a path from /", path)?,
    })
}

pub(crate) fn internet(table: &Table) -> Result<Internet, SiteError> {
    let compute_nodes = table.word("compute_nodes", &[("open", Outbound::Open), ("closed", Outbound::Closed)])?;
    let compute_nodes = compute_nodes.ok_or_else(|| table.missing("compute_nodes", "\"open\" or \"closed\""))?;
    Ok(Internet { compute_nodes, words: table.text("words")? })
}

pub(crate) fn energy(table: &Table) -> Result<Energy, SiteError> {
    let read_at = table.texts("read_at")?;
    if read_at.is_empty() || !read_at.iter().all(|place| ["sacct", "nvml"].contains(&place.as_str()) || place.starts_with('/')) {
        return Err(table.refuse("read_at", "a list of \"sacct\", \"nvml\" and paths from /"));
    }
    Ok(Energy { read_at })
}
