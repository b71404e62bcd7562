//! How fast a run would be if its devices did nothing but the operations of its model, at the peak that their maker states.
use sirocco_checkpoint::{Architecture, ModelDir};
use sirocco_config::{Device, Run};
use sirocco_plan::{Work, model_flops_per_token};

use super::place::find;
use super::sample::sample;

/// Tokens per second of all ranks; a run's own speed over it is its share of peak. `None` on hosts, whose peak nobody states, and where the profile does
/// not name a GPU that `sirocco plan` knows.
pub(crate) fn peak_tokens_per_s(run: &Run) -> Option<f64> {
    if run.model.device != Device::Cuda {
        return None;
    }
    at_peak(run, &ModelDir::open(&run.model.path).ok()?.architecture().ok()?)
}

fn at_peak(run: &Run, architecture: &Architecture) -> Option<f64> {
    let each = find(None, None, run).ok()?.place.peak?;
    let work = Work::of(run, sample(run).texture);
    Some(each * run.ranks() as f64 / model_flops_per_token(&super::model(architecture), &work))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sirocco_config::RunFile;

    use super::*;

    fn run(settings: &str) -> Run {
        let text = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a.jsonl']\ntrain.steps = 10\nmethod.kind = 'full'\nmodel.device = 'cuda'\n";
        let mut file = RunFile::parse(text, Path::new("run.toml")).unwrap();
        settings.split_whitespace().for_each(|setting| file.set(setting).unwrap());
        file.check(Path::new("/base")).unwrap()
    }

    #[test]
    fn the_peak_is_that_of_all_devices_and_hosts_have_none() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/tiny-mistral/config.json");
        let model = Architecture::read(&config).unwrap();
        let of = |settings: &str| at_peak(&run(settings), &model);
        let one = of("site.profile=meluxina").unwrap();
        // An A100 makes 312e12 operations a second, six for each of some 160,000 weights and a few for attention.
        assert!((1e8..4e8).contains(&one), "{one}");
        let four = of("site.profile=meluxina parallel.fsdp=4 train.global_batch=8").unwrap();
        assert!((four / one - 4.0).abs() < 1e-9, "{four} of {one}");
        assert_eq!(of("site.profile=slurm"), None);
        assert_eq!(peak_tokens_per_s(&run("model.device=cpu site.profile=meluxina")), None);
    }
}
