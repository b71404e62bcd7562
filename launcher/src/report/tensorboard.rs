//! A run's curves for TensorBoard, beside its own files: `events.out.tfevents.TIME.sirocco`.
//!
//! The format is that of TensorFlow's record writer (tensorflow/core/lib/io/record_writer.h and core/util/event.proto): records of length,
//! masked CRC-32C of the length, an `Event` in protocol buffers, and its masked CRC-32C. The dozen fields that scalars need are written by
//! hand here; a generated encoder would bring a compiler for them. The file is made whole each time and takes the place of the one before it.
use std::fs;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};

use crate::failure::Failure;
use crate::report::log::Log;
use crate::report::place;
use crate::report::series::Series;
use crate::train::directory::RunDirectory;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// What stands in the first record; readers refuse other versions.
const VERSION: &str = "brain.Event:2";
const BEGIN: &str = "events.out.tfevents.";
const END: &str = ".sirocco";

/// Writes the file of a run, and says where; nothing for one without a step.
pub(crate) fn write_for(directory: &RunDirectory) -> Result<Option<PathBuf>, Failure> {
    let (series, log) = (Series::read(&directory.metrics())?, Log::read(&directory.log(0))?);
    write(directory, &series, &log)
}

/// The same of a run that has been read. Older files of ours are removed: TensorBoard would show both.
pub(crate) fn write(directory: &RunDirectory, series: &Series, log: &Log) -> Result<Option<PathBuf>, Failure> {
    if series.steps.is_empty() && series.evaluations.is_empty() {
        return Ok(None);
    }
    let began = log.span().map_or(0.0, |(began, _)| began);
    // Ten digits, as TensorFlow writes them: readers take files of a directory in the order of their names.
    let name = format!("{BEGIN}{:010}{END}", began.max(0.0) as u64);
    let path = directory.path().join(&name);
    place::replace(&path, &records(series, log, began))?;
    for entry in fs::read_dir(directory.path()).into_iter().flatten().flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        if other != name && other.starts_with(BEGIN) && other.ends_with(END) {
            // One that cannot be removed is shown twice, and is no reason to fail.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(Some(Path::new(&directory.shown().to_string()).join(name)))
}

/// The whole file.
fn records(series: &Series, log: &Log, began: f64) -> Vec<u8> {
    let mut bytes = Vec::new();
    record(&mut bytes, &opening(began));
    let mut evaluations = series.evaluations.iter().peekable();
    let mut held_out = |bytes: &mut Vec<u8>, before: u64, clock: f64| {
        while let Some(evaluation) = evaluations.next_if(|evaluation| evaluation.step < before) {
            let time = log.evaluations.get(&evaluation.step).copied().unwrap_or(clock);
            record(bytes, &event(time, evaluation.step, &[("valid_loss", evaluation.loss)]));
        }
    };
    // A step whose time nobody wrote down ended that many seconds after the one before it.
    let mut clock = began;
    for step in &series.steps {
        held_out(&mut bytes, step.step, clock);
        clock = log.steps.get(&step.step).copied().unwrap_or(clock + step.seconds);
        let scalars = [
            ("loss", step.loss),
            ("learning_rate", step.learning_rate),
            ("grad_norm", step.grad_norm),
            ("tokens_per_s", Some(step.tokens_per_s)),
            ("peak_memory_bytes", Some(step.peak_memory_bytes as f64)),
        ];
        let known: Vec<_> = scalars.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
        record(&mut bytes, &event(clock, step.step, &known));
    }
    held_out(&mut bytes, u64::MAX, clock);
    bytes
}

/// `Event { wall_time = 1, file_version = 3 }`
fn opening(time: f64) -> Vec<u8> {
    let mut event = message::double(1, time);
    event.extend(message::text(3, VERSION));
    event
}

/// `Event { wall_time = 1, step = 2, summary = 5 }`, `Summary { value = 1 }`, `Value { tag = 1, simple_value = 2 }`.
fn event(time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut one = message::text(1, tag);
        one.extend(message::float(2, *value as f32));
        summary.extend(message::bytes(1, &one));
    }
    let mut event = message::double(1, time);
    event.extend(message::number(2, step));
    event.extend(message::bytes(5, &summary));
    event
}

/// Adds a record with its length and checksums.
fn record(bytes: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked(data).to_le_bytes());
}

/// TensorFlow rotates checksums, so that one over data that holds checksums stays good.
fn masked(data: &[u8]) -> u32 {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Fields of a message in protocol buffers, whose third version leaves zeros out.
mod message {
    pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
        if value == 0 {
            return Vec::new();
        }
        let mut bytes = varint(field << 3);
        bytes.extend(varint(value));
        bytes
    }

    pub(super) fn double(field: u64, value: f64) -> Vec<u8> {
        if value.to_bits() == 0 {
            return Vec::new();
        }
        let mut bytes = varint(field << 3 | 1);
        bytes.extend(value.to_le_bytes());
        bytes
    }

    /// Of a choice (`oneof`), whose zeros stand.
    pub(super) fn float(field: u64, value: f32) -> Vec<u8> {
        let mut bytes = varint(field << 3 | 5);
        bytes.extend(value.to_le_bytes());
        bytes
    }

    pub(super) fn text(field: u64, value: &str) -> Vec<u8> {
        bytes(field, value.as_bytes())
    }

    pub(super) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        let mut bytes = varint(field << 3 | 2);
        bytes.extend(varint(value.len() as u64));
        bytes.extend(value);
        bytes
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::fmt::Write as _;

    fn hex(event: &[u8]) -> String {
        let mut bytes = Vec::new();
        record(&mut bytes, event);
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[test]
    fn records_are_those_of_tensorboards_own_writer() {
        let oracle: Value = serde_json::from_str(include_str!("../../tests/oracle/events.json")).unwrap();
        assert_eq!(hex(&opening(oracle["first"]["time"].as_f64().unwrap())), oracle["first"]["record"]);
        let cases = oracle["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let scalar = |pair: &'_ Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_f64().unwrap());
            let scalars: Vec<_> = case["scalars"].as_array().unwrap().iter().map(scalar).collect();
            let scalars: Vec<_> = scalars.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
            let event = event(case["time"].as_f64().unwrap(), case["step"].as_u64().unwrap(), &scalars);
            assert_eq!(hex(&event), case["record"], "{case}");
        }
    }

    #[test]
    fn a_file_takes_the_place_of_ours_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _) = RunDirectory::for_new_run(dir.path()).unwrap();
        assert_eq!(write_for(&directory).unwrap(), None);
        let line = r#"{"step":1,"loss":2.5,"tokens":20,"seconds":0.5,"tokens_per_s":40.0}"#;
        fs::write(directory.metrics(), format!("{line}\n{{\"step\":1,\"valid_loss\":2.0}}\n")).unwrap();
        for name in ["events.out.tfevents.1700000000.sirocco", "events.out.tfevents.1700000000.host"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let path = write_for(&directory).unwrap().unwrap();
        assert_eq!(path.file_name().unwrap(), "events.out.tfevents.0000000000.sirocco");
        let first = fs::read(&path).unwrap();
        assert_eq!(write_for(&directory).unwrap().as_ref(), Some(&path));
        assert_eq!(fs::read(&path).unwrap(), first, "the same run gives the same file");
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["events.out.tfevents.0000000000.sirocco", "events.out.tfevents.1700000000.host", "metrics.jsonl"]);
    }
}
