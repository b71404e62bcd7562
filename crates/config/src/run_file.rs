//! Stage one: what was typed. Every name is known, every value still raw, every setting remembers its place.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;
use crate::parallel::MOST_RANKS;
use crate::place::{Place, line_of};
use crate::reader::Reader;
use crate::settings::{self, SECTIONS};

/// A value and where it was typed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Typed {
    pub(crate) value: Value,
    pub(crate) at: Place,
}

/// A run file as typed, with the overrides of the command line laid over it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFile {
    path: PathBuf,
    settings: BTreeMap<String, Typed>,
    /// Settings that an override took out, and which one did.
    unset: BTreeMap<String, Place>,
}

/// A setting that stands in the run file and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Where it stands.
    pub at: Place,
    /// Section and name.
    pub setting: String,
    /// Why it changes nothing.
    pub because: &'static str,
}

/// The settings that may change when a run is resumed: how long, where and on which mesh, how patient, how often it saves and
/// evaluates. Everything else decides what the run *is*, from its data order to its learning-rate curve.
const FREE_ON_RESUME: &[&str] = &["model.device", "train.steps", "train.epochs", "train.micro_batch", "train.max_skipped_steps"];
const FREE_SECTIONS_ON_RESUME: &[&str] = &["parallel", "checkpoint", "eval", "site"];

/// The same as messages and run files say it: `model.device, train.steps, …, [checkpoint] and [eval]`.
pub fn free_on_resume() -> String {
    let sections = FREE_SECTIONS_ON_RESUME.iter().map(|section| format!("[{section}]"));
    let mut names: Vec<String> = FREE_ON_RESUME.iter().map(|name| (*name).to_owned()).chain(sections).collect();
    let last = names.pop().unwrap_or_default();
    format!("{} and {last}", names.join(", "))
}

impl RunFile {
    /// Reads and parses the run file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Read`], and those of [`RunFile::parse`].
    pub fn read(path: &Path) -> Result<RunFile, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        RunFile::parse(&text, path)
    }

    /// Parses the text of a run file; `path` is only what messages call it.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`], [`ConfigError::UnknownSection`], [`ConfigError::UnknownSetting`], and [`ConfigError::Value`]
    /// where a section is not a table.
    pub fn parse(text: &str, path: &Path) -> Result<RunFile, ConfigError> {
        let line = |offset: usize| Place::Line { file: path.to_owned(), line: line_of(text, offset) };
        let syntax = |error: &toml::de::Error| ConfigError::Syntax {
            at: line(error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', "; "),
        };
        // The text is parsed twice: once for the places of the keys, once for plain values.
        let places = DeTable::parse(text).map_err(|error| syntax(&error))?;
        let mut values: toml::Table = toml::from_str(text).map_err(|error| syntax(&error))?;
        let mut file = RunFile { path: path.to_owned(), settings: BTreeMap::new(), unset: BTreeMap::new() };
        for (key, place) in places.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), line(key.span().start));
            let Some(value) = values.remove(name) else { continue };
            match (place.get_ref(), value) {
                (DeValue::Table(inner), Value::Table(mut values)) => {
                    known_section(name, &at)?;
                    for key in inner.keys() {
                        let Some(value) = values.remove(key.get_ref().as_ref()) else { continue };
                        file.insert(name, key.get_ref(), Typed { value, at: line(key.span().start) })?;
                    }
                }
                (_, value) if settings::section(name).is_some_and(|section| !section.name.is_empty()) => {
                    return Err(ConfigError::Value {
                        at,
                        setting: name.to_owned(),
                        found: show(&value),
                        expected: format!("a section, [{name}]"),
                    });
                }
                (_, value) => file.insert("", name, Typed { value, at })?,
            }
        }
        Ok(file)
    }

    /// Lays `SECTION.KEY=VALUE` over the file. The value is TOML; bare words are strings. `steps` takes the place of `epochs`
    /// and the other way round. Without a value, `SECTION.KEY=`, the setting is as if it had not been typed.
    ///
    /// # Errors
    /// [`ConfigError::Override`], [`ConfigError::UnknownSection`] or [`ConfigError::UnknownSetting`].
    pub fn set(&mut self, text: &str) -> Result<(), ConfigError> {
        let malformed = || ConfigError::Override { text: text.to_owned() };
        let (name, value) = text.split_once('=').ok_or_else(malformed)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err(malformed());
        }
        let at = Place::Override(name.to_owned());
        let (section, key) = name.split_once('.').unwrap_or(("", name));
        known_section(section, &at)?;
        if value.is_empty() {
            return self.take_out(section, key, at);
        }
        self.overlay(section, key, Typed { value: bare_value(value), at })
    }

    /// Lays `--ranks N` over the file: dp becomes what makes the product of the axes `ranks`. The other axes are those of the
    /// file and of the overrides so far.
    ///
    /// # Errors
    /// [`ConfigError::RanksForMesh`] where fsdp × tp × pp does not divide `ranks`, [`ConfigError::SetTwice`] beside an override
    /// of dp, [`ConfigError::Value`] where an axis is no number.
    pub fn set_ranks(&mut self, ranks: u32) -> Result<(), ConfigError> {
        let (at, ranks) = (Place::Option("--ranks"), u64::from(ranks));
        if let Some(Typed { at: other @ Place::Override(_), .. }) = self.get("parallel.dp") {
            return Err(ConfigError::SetTwice { at, other: other.clone(), setting: settings::label("parallel", "dp") });
        }
        let reader = Reader::new(self, "parallel");
        let axis = |key| Ok(reader.whole(key, 1, MOST_RANKS)?.unwrap_or(1));
        let (pp, fsdp, tp) = (axis("pp")?, axis("fsdp")?, axis("tp")?);
        // Three axes of the largest size fit 64 bits.
        let others = pp * fsdp * tp;
        if ranks == 0 || !ranks.is_multiple_of(others) {
            return Err(ConfigError::RanksForMesh { at, ranks, pp, fsdp, tp });
        }
        self.overlay("parallel", "dp", Typed { value: Value::Integer((ranks / others) as i64), at })
    }

    /// Refuses overrides of what a run settled when it began.
    ///
    /// # Errors
    /// [`ConfigError::FixedAtStart`] for the first such override.
    pub fn refuse_fixed_overrides(&self) -> Result<(), ConfigError> {
        let overridden = |typed: &Typed| matches!(typed.at, Place::Override(_) | Place::Option(_));
        let free = |name: &str| {
            let section = name.split_once('.').map_or("", |(section, _)| section);
            FREE_ON_RESUME.contains(&name) || FREE_SECTIONS_ON_RESUME.contains(&section)
        };
        let laid_over = self.settings.iter().filter(|(_, typed)| overridden(typed)).map(|(name, typed)| (name, &typed.at));
        match laid_over.chain(&self.unset).find(|(name, _)| !free(name)) {
            None => Ok(()),
            Some((name, at)) => {
                let (section, key) = name.split_once('.').unwrap_or(("", name));
                Err(ConfigError::FixedAtStart { at: at.clone(), setting: settings::label(section, key) })
            }
        }
    }

    /// Settings that were typed and change nothing; a program names them rather than keeping silent.
    pub fn ignored(&self) -> Vec<Ignored> {
        let mut ignored = Vec::new();
        let mut look = |section: &str, keys: &[&str], because: &'static str| {
            for key in keys {
                if let Some(typed) = self.get(&settings::dotted(section, key)) {
                    ignored.push(Ignored { at: typed.at.clone(), setting: settings::label(section, key), because });
                }
            }
        };
        if self.get("method.kind").and_then(|typed| typed.value.as_str()) == Some("full") {
            let because = "[method] kind = \"full\" trains every weight and has no adapter";
            look("method", &["rank", "alpha", "targets"], because);
        }
        if self.get("data.valid").and_then(|typed| typed.value.as_array()).is_none_or(Vec::is_empty) {
            look("eval", &["every_steps"], "[data] valid is empty");
        }
        ignored
    }

    /// What messages call the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The setting `section.key`, if typed.
    pub(crate) fn get(&self, dotted: &str) -> Option<&Typed> {
        self.settings.get(dotted)
    }

    /// Where a setting such as `parallel.tp` was typed or taken out, or the file if it was neither.
    pub fn place_of(&self, dotted: &str) -> Place {
        let typed = self.get(dotted).map(|typed| &typed.at).or_else(|| self.unset.get(dotted));
        typed.cloned().unwrap_or_else(|| Place::File(self.path.clone()))
    }

    /// Where to look when several settings do not go together: the first that was typed on the command line, where the person is,
    /// else the first in the file.
    pub fn to_blame(&self, settings: &[&str]) -> Place {
        let typed = || settings.iter().filter_map(|setting| self.get(setting));
        let blamed = typed().find(|typed| !matches!(typed.at, Place::Line { .. })).or_else(|| typed().next());
        blamed.map_or_else(|| Place::File(self.path.clone()), |typed| typed.at.clone())
    }

    fn overlay(&mut self, section: &str, key: &str, typed: Typed) -> Result<(), ConfigError> {
        let twin = match (section, key) {
            ("train", "steps") => "train.epochs",
            ("train", "epochs") => "train.steps",
            _ => "",
        };
        if self.get(twin).is_some_and(|other| matches!(other.at, Place::Line { .. })) {
            self.settings.remove(twin);
        }
        self.insert(section, key, typed)
    }

    fn insert(&mut self, section: &str, key: &str, typed: Typed) -> Result<(), ConfigError> {
        let name = known_setting(section, key, &typed.at)?;
        self.unset.remove(&name);
        self.settings.insert(name, typed);
        Ok(())
    }

    fn take_out(&mut self, section: &str, key: &str, at: Place) -> Result<(), ConfigError> {
        let name = known_setting(section, key, &at)?;
        self.settings.remove(&name);
        self.unset.insert(name, at);
        Ok(())
    }
}

/// The dotted name of a setting that there is.
fn known_setting(section: &str, key: &str, at: &Place) -> Result<String, ConfigError> {
    let keys = settings::section(section).map_or(&[][..], |section| section.keys);
    if keys.contains(&key) {
        return Ok(settings::dotted(section, key));
    }
    let (setting, nearest) = (settings::label(section, key), settings::nearest_setting(section, key));
    Err(ConfigError::UnknownSetting { at: at.clone(), setting, nearest, valid: keys.join(", ") })
}

fn known_section(name: &str, at: &Place) -> Result<(), ConfigError> {
    if settings::section(name).is_some() {
        return Ok(());
    }
    let names: Vec<_> = SECTIONS.iter().map(|section| section.name).filter(|name| !name.is_empty()).collect();
    let nearest = settings::nearest_section(name).map(|name| format!("[{name}]"));
    Err(ConfigError::UnknownSection { at: at.clone(), section: name.to_owned(), nearest, valid: names.join(", ") })
}

/// A value of the command line: TOML where it is TOML, otherwise a string, or strings where it is a list of bare words.
fn bare_value(text: &str) -> Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {text}"));
    if let Some(value) = table.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value")) {
        // No setting is a time of day, as which TOML reads 06:00:00.
        return if value.is_datetime() { Value::String(text.to_owned()) } else { value };
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(items) if !items.contains(['[', '"', '\'']) => {
            Value::Array(items.split(',').map(|item| Value::String(item.trim().to_owned())).collect())
        }
        _ => Value::String(text.to_owned()),
    }
}

/// A value as messages show it: TOML on one line, cut when long.
pub fn show(value: &Value) -> String {
    let text = match value {
        Value::Table(_) => "a table".to_owned(),
        other => other.to_string().replace('\n', " "),
    };
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunFile, String> {
        RunFile::parse(text, Path::new("run.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn unknown_names_are_refused_with_line_and_neighbour() {
        assert_eq!(
            parse("name = 'x'\n[train]\nsteps = 3\nlerning_rate = 1\n").unwrap_err(),
            "run.toml:4: unknown setting [train] lerning_rate; did you mean learning_rate?"
        );
        assert_eq!(parse("[modle]\npath = 'x'\n").unwrap_err(), "run.toml:1: unknown section [modle]; did you mean [model]?");
        assert_eq!(parse("\nsteps = 3").unwrap_err(), "run.toml:2: unknown setting steps; did you mean [train] steps?");
        assert_eq!(parse("[eval]\nzzz = 3").unwrap_err(), "run.toml:2: unknown setting [eval] zzz; the settings are every_steps");
        assert_eq!(parse("model = 3").unwrap_err(), "run.toml:1: model = 3: expected a section, [model]");
        assert!(parse("[train]\nsteps = \n").unwrap_err().starts_with("run.toml:2: not valid TOML: "));
        assert!(parse("[train]\nsteps = 1\nsteps = 2\n").unwrap_err().starts_with("run.toml:3: not valid TOML: duplicate key"));
    }

    #[test]
    fn dotted_and_inline_forms_are_the_same_file() {
        let plain = parse("[train]\nsteps = 3\n").unwrap();
        assert_eq!(parse("train.steps = 3\n").unwrap().get("train.steps").unwrap().value, Value::Integer(3));
        assert_eq!(plain.get("train.steps").unwrap().value, Value::Integer(3));
        assert_eq!(parse("train = { steps = 3 }\n").unwrap().get("train.steps").unwrap().value, Value::Integer(3));
    }

    #[test]
    fn overrides_are_toml_or_bare_words_and_are_named() {
        let mut file = parse("[train]\nepochs = 3\n").unwrap();
        file.set("train.steps=80").unwrap();
        file.set("model.dtype=fp32").unwrap();
        file.set("data.train=[\"a\", \"b\"]").unwrap();
        file.set("name = my-run").unwrap();
        assert_eq!(file.get("train.epochs"), None, "steps take the place of epochs");
        assert_eq!(file.get("model.dtype").unwrap().value, Value::String("fp32".to_owned()));
        assert_eq!(file.get("data.train").unwrap().value.as_array().map(Vec::len), Some(2));
        assert_eq!(file.get("name").unwrap().value, Value::String("my-run".to_owned()));
        let message = |text: &str| file.clone().set(text).unwrap_err().to_string();
        assert_eq!(message("train.stesp=80"), "--set train.stesp: unknown setting [train] stesp; did you mean steps?");
        assert_eq!(message("trian.steps=80"), "--set trian.steps: unknown section [trian]; did you mean [train]?");
        assert_eq!(message("train.steps"), "--set train.steps: expected SECTION.KEY=VALUE, such as --set train.steps=80");
        assert_eq!(message("=80"), "--set =80: expected SECTION.KEY=VALUE, such as --set train.steps=80");
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_second_setting() {
        assert_eq!(bare_value("1\nother = 2"), Value::String("1\nother = 2".to_owned()));
    }

    #[test]
    fn ranks_leave_dp_what_the_other_axes_do_not_take() {
        let file = parse("[parallel]\ndp = 7\ntp = 2\npp = 3\n").unwrap();
        let dp = |sets: &[&str], ranks: u32| {
            let mut file = file.clone();
            sets.iter().try_for_each(|text| file.set(text)).and_then(|()| file.set_ranks(ranks))?;
            Ok(file.get("parallel.dp").unwrap().value.as_integer().unwrap())
        };
        let message = |sets: &[&str], ranks: u32| -> String {
            let refused: Result<i64, ConfigError> = dp(sets, ranks);
            refused.unwrap_err().to_string()
        };
        assert_eq!(dp(&[], 24).unwrap(), 4);
        assert_eq!(dp(&["parallel.fsdp=2", "parallel.pp=1"], 4).unwrap(), 1);
        assert_eq!(
            message(&["parallel.fsdp=2"], 8),
            "--ranks: 8 ranks: expected a multiple of pp × fsdp × tp = 3 × 2 × 2 = 12, and dp is what remains"
        );
        assert_eq!(message(&["parallel.dp=4"], 24), "--ranks and --set parallel.dp both set [parallel] dp: expected one of them");
        assert!(message(&["parallel.fsdp=two"], 8).starts_with("--set parallel.fsdp: [parallel] fsdp = \"two\": expected"));
        assert!(message(&[], 0).starts_with("--ranks: 0 ranks: expected"));
    }

    #[test]
    fn what_a_run_is_cannot_change_on_resuming() {
        let mut file = parse("[train]\nsteps = 3\n").unwrap();
        file.set("train.steps=9").unwrap();
        for free in [
            "model.device=cpu",
            "train.max_skipped_steps=0",
            "parallel.tp=2",
            "parallel.fsdp=3",
            "parallel.pp=2",
            "checkpoint.staging=x",
        ] {
            file.set(free).unwrap();
        }
        file.set_ranks(24).unwrap();
        assert!(file.refuse_fixed_overrides().is_ok());
        file.set("train.learning_rate=1").unwrap();
        assert_eq!(
            file.refuse_fixed_overrides().unwrap_err().to_string(),
            "--set train.learning_rate: [train] learning_rate was settled when the run began and cannot change on resuming"
        );
    }
}
