//! The profiles at the root: every one reads, and says what people have to know before they submit there.
use std::path::{Path, PathBuf};

use sirocco_site::{Arch, MpiStart, Needs, Outbound, Reason, Runs, Scheduler, Site, Vendor, WallTime};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/sites")
}

fn site(name: &str) -> Site {
    Site::read(&folder().join(format!("{name}.toml"))).unwrap_or_else(|error| panic!("{error}"))
}

fn cuda(programs: Arch) -> Needs {
    Needs { runs: Runs::Cuda, programs: Some(programs), ..Needs::default() }
}

#[test]
fn every_profile_reads_and_is_called_as_its_file() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let stem = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(site(&stem).name, stem);
        names.push(stem);
    }
    names.sort();
    assert_eq!(names, ["jupiter", "leonardo", "local", "lumi", "marenostrum5", "meluxina", "slurm"]);
}

#[test]
fn documents_that_are_sources_are_in_the_repository() {
    for name in ["local", "slurm", "meluxina"] {
        for source in site(name).sources.values().filter(|source| source.at.ends_with(".md") && !source.at.contains("://")) {
            assert!(folder().join("../..").join(&source.at).exists(), "{name}: {}", source.at);
        }
    }
}

#[test]
fn cuda_runs_everywhere_but_on_lumi() {
    for name in ["meluxina", "leonardo", "marenostrum5", "slurm", "local"] {
        assert_eq!(site(name).refuses(&cuda(Arch::X86_64)), None, "{name}");
    }
    let Some(Reason::OtherGpus { partition, vendor, .. }) = site("lumi").refuses(&cuda(Arch::X86_64)) else { panic!("LUMI") };
    assert_eq!((partition.as_str(), vendor), ("standard-g", Vendor::Amd));
    assert_eq!(site("lumi").refuses(&Needs { programs: Some(Arch::X86_64), ..Needs::default() }), None, "its cores compute");
}

#[test]
fn jupiter_wants_programs_for_arm() {
    let jupiter = site("jupiter");
    let reason = jupiter.refuses(&cuda(Arch::X86_64)).unwrap();
    assert!(reason.to_string().ends_with("expected sirocco, libtorch, MPI and NCCL for aarch64"), "{reason}");
    assert_eq!(jupiter.refuses(&cuda(Arch::Aarch64)), None);
    let day = Needs { time: WallTime::parse("1-0"), ..cuda(Arch::Aarch64) };
    assert!(matches!(jupiter.refuses(&day), Some(Reason::TooLong { .. })));
}

#[test]
fn meluxina_gives_fifty_gpu_nodes_for_two_days() {
    let meluxina = site("meluxina");
    let asks = |nodes, time| {
        meluxina.refuses(&Needs { qos: Some("default".to_owned()), nodes, time: WallTime::parse(time), ..cuda(Arch::X86_64) })
    };
    assert_eq!(asks(50, "48:00:00"), None);
    assert!(matches!(asks(51, "48:00:00"), Some(Reason::TooManyNodes { most: 50, .. })));
    assert!(matches!(asks(50, "48:00:01"), Some(Reason::TooLong { .. })));
    assert_eq!(meluxina.internet.unwrap().facts.compute_nodes, Outbound::Open, "confinement is not given by the site");
}

#[test]
fn large_jobs_of_leonardo_are_large() {
    let asks = |qos: &str, nodes| site("leonardo").refuses(&Needs { qos: Some(qos.to_owned()), nodes, ..cuda(Arch::X86_64) });
    assert!(matches!(asks("boost_qos_bprod", 64), Some(Reason::TooFewNodes { least: 65, .. })));
    assert_eq!(asks("boost_qos_bprod", 128), None);
    assert!(matches!(asks("normal", 65), Some(Reason::TooManyNodes { most: 64, .. })));
}

#[test]
fn what_nobody_knows_of_a_cluster_is_absent() {
    let slurm = site("slurm");
    assert_eq!((slurm.scheduler, slurm.country, slurm.partitions.len()), (Scheduler::Slurm, None, 0));
    assert_eq!(site("local").mpi.unwrap().facts.start, MpiStart::Mpirun);
    assert_eq!(site("marenostrum5").partition("acc").unwrap().memory_gb, None);
}
