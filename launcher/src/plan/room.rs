//! Whether a run fits the memory of the place where it would compute, and its checkpoints the disk: what `sirocco check` and `sirocco submit` refuse
//! before it waits in a queue.
use std::path::Path;

use sirocco_checkpoint::Architecture;
use sirocco_config::{Device, LOCAL_SITE, Run, RunFile};
use sirocco_plan::{Kind, Texture, Work, checkpoint_bytes, memory};

use super::place::find;
use crate::failure::{Failure, Kind as Fault};
use crate::output::{bytes, say};
use crate::quota::{self, Found, Verdict};

/// How far the count may be off (docs/plan.md): what is refused is beyond doubt.
const DOUBT: f64 = 1.1;

/// Bytes of the rank that needs most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) needed: u64,
    /// That it may take; `None` where nobody knows.
    pub(crate) there: Option<u64>,
}

/// Counts what the run needs, and refuses it where that cannot be had. `None` where the run would compute elsewhere than its partition is for, or on a
/// mesh that is refused for other reasons.
pub(crate) fn expect_room(
    file: &RunFile,
    run: &Run,
    architecture: &Architecture,
    texture: Texture,
) -> Result<Option<Room>, Failure> {
    let Ok(found) = find(None, None, run) else { return Ok(None) };
    let gpus = found.place.around.kind == Kind::Gpu;
    // `auto` takes a GPU where there is one: of this machine it is not known here.
    let elsewhere =
        if gpus { run.model.device == Device::Cpu } else { run.site.profile == LOCAL_SITE && run.model.device == Device::Cuda };
    let work = Work::of(run, texture);
    let Ok(memory) = memory(&super::model(architecture), &work, &run.parallel, found.place.around) else { return Ok(None) };
    if elsewhere {
        return Ok(None);
    }
    let room = Room { needed: memory.total(), there: found.room_bytes };
    match room.there {
        Some(there) if room.needed as f64 > DOUBT * there as f64 => {
            let (at, needed, there) = (file.place_of("parallel.fsdp"), bytes(room.needed), bytes(there));
            let place = found.partition.map_or(found.title, |partition| format!("partition {partition}"));
            let each = if gpus { "a GPU" } else { "a rank" };
            let message = format!("{at}: a rank of this run needs {needed} of memory, and {place} has {there} for {each}");
            Err(Failure::new(Fault::Usage, message).help("sirocco plan RUN.toml shows where it goes, and the meshes that fit"))
        }
        _ => Ok(Some(room)),
    }
}

/// Files of a checkpoint, at least: what it holds, and a shard.
const FILES: u64 = 2;

/// Refuses a run whose checkpoints the disk cannot hold, or a quota does not allow: as many as stay, and the one that is being written; of a run that
/// has begun, that one. Returns the quotas that there are.
pub(crate) fn expect_disk(run: &Run, architecture: &Architecture, directory: &Path, has_begun: bool) -> Result<Found, Failure> {
    let work = Work::of(run, Texture::whole(run.data.sequence_length));
    let each = checkpoint_bytes(&super::model(architecture), &work, &run.parallel);
    let number = if has_begun { 1 } else { run.checkpoint.keep.saturating_add(1) };
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let Some(disk) = absolute.ancestors().find(|path| path.is_dir()) else { return Ok(Found::default()) };
    let needed = each.saturating_mul(number);
    let shown = directory.display();
    let what = format!("{shown}: {number} checkpoints of {} need {}", bytes(each), bytes(needed));
    let help = "checkpoint.keep says how many stay; --dir names a directory on another disk";
    // What cannot be asked is not refused.
    let free = rustix::fs::statvfs(disk).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    if let Some(free) = free.ok().filter(|free| needed > *free) {
        let message = format!("{what}, and {} are free: expected room for them", bytes(free));
        return Err(Failure::new(Fault::Machine, message).help(help));
    }
    let found = quota::of(disk);
    found.notes.iter().for_each(|note| say(format_args!("note: {note}")));
    // Each rank has a log beside them.
    let files = number.saturating_mul(FILES).saturating_add(run.ranks());
    for quota in &found.quotas {
        match quota.verdict(needed, files) {
            Verdict::Fits => {}
            Verdict::Warns(why) => say(format_args!("note: {what}; {why}")),
            Verdict::Refuses(why) => return Err(Failure::new(Fault::Machine, format!("{what}; {why}")).help(help)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn run(settings: &[&str]) -> (RunFile, Run) {
        let text = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a.jsonl']\ntrain.steps = 10\nmethod.kind = 'full'\n";
        let mut file = RunFile::parse(text, Path::new("run.toml")).unwrap();
        settings.iter().for_each(|setting| file.set(setting).unwrap());
        let run = file.check(Path::new("/base")).unwrap();
        (file, run)
    }

    fn seven_billion() -> Architecture {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("config.json");
        let sizes = r#"{"architectures":["MistralForCausalLM"],"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,
            "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,"vocab_size":32768,
            "max_position_embeddings":32768,"rms_norm_eps":1e-5,"rope_theta":1000000.0,"hidden_act":"silu","tie_word_embeddings":false}"#;
        std::fs::write(&path, sizes).unwrap();
        Architecture::read(&path).unwrap()
    }

    #[test]
    fn what_a_gpu_cannot_hold_is_refused_and_a_mesh_that_shards_it_is_not() {
        let model = seven_billion();
        let (file, alone) = run(&["site.profile=meluxina"]);
        let refused = expect_room(&file, &alone, &model, Texture::whole(512)).unwrap_err().message;
        assert!(refused.contains(" of memory, and partition gpu has ") && refused.ends_with(" for a GPU"), "{refused}");
        let (file, shared) = run(&["site.profile=meluxina", "site.nodes=4", "parallel.fsdp=16", "train.global_batch=16"]);
        let room = expect_room(&file, &shared, &model, Texture::whole(512)).unwrap().unwrap();
        assert!(room.needed < room.there.unwrap(), "{room:?}");
        let (file, on_hosts) = run(&["site.profile=meluxina", "model.device=cpu"]);
        assert_eq!(expect_room(&file, &on_hosts, &model, Texture::whole(512)).unwrap(), None);
    }

    #[test]
    fn checkpoints_that_no_disk_holds_are_refused() {
        let (model, dir) = (seven_billion(), tempfile::tempdir().unwrap());
        let (_, many) = run(&["checkpoint.keep=1000000"]);
        let refused = expect_disk(&many, &model, &dir.path().join("runs/x"), false).unwrap_err().message;
        assert!(refused.contains("1000001 checkpoints of 86.98 GB need"), "{refused}");
        let small = Architecture { layers: 1, hidden_size: 8, vocab_size: 8, ffn_size: 8, ..model };
        let (_, few) = run(&["checkpoint.keep=1"]);
        assert!(expect_disk(&few, &small, dir.path(), false).is_ok());
    }
}
