//! The surface: every section and setting that a run file may hold, and the nearest valid name for one that it may not.

/// A section of the run file. The first one, with the empty name, holds the settings above every `[section]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name between brackets.
    pub name: &'static str,
    /// The settings, in the order in which `RUN/run.toml` writes them.
    pub keys: &'static [&'static str],
}

/// Every setting. A name is added here and in `check.rs`, nowhere else; a test holds the list.
pub const SECTIONS: &[Section] = &[
    Section { name: "", keys: &["name", "seed"] },
    Section { name: "model", keys: &["path", "dtype", "device"] },
    Section { name: "data", keys: &["train", "valid", "format", "sequence_length", "packing", "on_bad"] },
    Section { name: "method", keys: &["kind", "rank", "alpha", "targets"] },
    Section {
        name: "train",
        keys: &[
            "steps",
            "epochs",
            "global_batch",
            "micro_batch",
            "learning_rate",
            "schedule",
            "warmup_steps",
            "weight_decay",
            "max_grad_norm",
            "betas",
            "epsilon",
            "max_skipped_steps",
        ],
    },
    Section { name: "parallel", keys: &["dp", "fsdp", "tp", "pp", "recompute", "bucket_mb", "timeout_s"] },
    Section { name: "checkpoint", keys: &["every_steps", "keep", "staging"] },
    Section { name: "eval", keys: &["every_steps"] },
    Section {
        name: "site",
        keys: &[
            "profile",
            "account",
            "partition",
            "qos",
            "time",
            "nodes",
            "spare_nodes",
            "restarts",
            "keep_environment",
            "container",
        ],
    },
    Section { name: "policy", keys: &["set", "facts", "purpose", "confinement", "keys", "trust"] },
];

/// The section called `name`.
pub(crate) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// A setting as messages write it: `[train] steps`, or `name` for one that stands above every section.
pub(crate) fn label(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("[{section}] {key}") }
}

/// A setting as one dotted word, `train.steps`: its key in a [`crate::RunFile`].
pub(crate) fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The section name nearest to `typed`, if any is near.
pub(crate) fn nearest_section(typed: &str) -> Option<String> {
    nearest(typed, SECTIONS.iter().map(|section| section.name).filter(|name| !name.is_empty())).map(str::to_owned)
}

/// The setting nearest to `[section] key`: one of the same section (bare name), else the same or a near name elsewhere (with its
/// section).
pub(crate) fn nearest_setting(in_section: &str, key: &str) -> Option<String> {
    let own = section(in_section).map_or(&[][..], |section| section.keys);
    let elsewhere = |wanted: &str| {
        let holder = SECTIONS.iter().find(|section| section.name != in_section && section.keys.contains(&wanted))?;
        Some(label(holder.name, wanted))
    };
    elsewhere(key)
        .or_else(|| nearest(key, own.iter().copied()).map(str::to_owned))
        .or_else(|| nearest(key, SECTIONS.iter().flat_map(|section| section.keys.iter().copied())).and_then(elsewhere))
}

/// The candidate nearest to `typed` by Damerau-Levenshtein distance, if at most a third of its letters (at least one) differ.
pub fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase().replace('-', "_");
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_settings_find_their_neighbour() {
        assert_eq!(nearest_setting("train", "lerning_rate").as_deref(), Some("learning_rate"));
        assert_eq!(nearest_setting("train", "stesp").as_deref(), Some("steps"));
        assert_eq!(nearest_setting("train", "learning-rate").as_deref(), Some("learning_rate"));
        assert_eq!(nearest_setting("train", "dp").as_deref(), Some("[parallel] dp"));
        assert_eq!(nearest_setting("", "steps").as_deref(), Some("[train] steps"));
        assert_eq!(nearest_setting("train", "sequence_lenght").as_deref(), Some("[data] sequence_length"));
        assert_eq!(nearest_setting("train", "quantum"), None);
        assert_eq!(nearest_section("modle").as_deref(), Some("model"));
        assert_eq!(nearest_section("zebra"), None);
    }

    #[test]
    fn the_surface_is_frozen() {
        let all: Vec<String> =
            SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| dotted(section.name, key))).collect();
        assert_eq!(
            all.join(" "),
            "name seed model.path model.dtype model.device data.train data.valid data.format data.sequence_length data.packing \
             data.on_bad method.kind method.rank method.alpha method.targets train.steps train.epochs train.global_batch \
             train.micro_batch train.learning_rate train.schedule train.warmup_steps train.weight_decay train.max_grad_norm \
             train.betas train.epsilon train.max_skipped_steps parallel.dp parallel.fsdp parallel.tp parallel.pp parallel.recompute \
             parallel.bucket_mb parallel.timeout_s checkpoint.every_steps checkpoint.keep checkpoint.staging eval.every_steps site.profile \
             site.account site.partition site.qos site.time site.nodes site.spare_nodes site.restarts site.keep_environment \
             site.container policy.set policy.facts policy.purpose policy.confinement policy.keys policy.trust"
        );
    }
}
