//! From the text of a site file to a checked [`Site`]: every section, every key, every source.
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sirocco_config::nearest;
use toml::Value;

use crate::error::SiteError;
use crate::groups::Note;
use crate::sections::{self, text};
use crate::table::Table;
use crate::types::{Known, Site, Source};

/// Every section of a site file.
const SECTIONS: [&str; 13] = [
    "site",
    "source",
    "partition",
    "qos",
    "submit",
    "network",
    "mpi",
    "software",
    "modules",
    "disk",
    "internet",
    "energy",
    "note",
];

impl Site {
    /// Reads and checks the site file at `path`.
    ///
    /// # Errors
    /// [`SiteError::Read`], and those of [`Site::parse`].
    pub fn read(path: &Path) -> Result<Site, SiteError> {
        let text = std::fs::read_to_string(path).map_err(|source| SiteError::Read { path: path.to_owned(), source })?;
        Site::parse(&text, path)
    }

    /// Checks the text of a site file; `path` is only what messages call it.
    ///
    /// # Errors
    /// Every other variant of [`SiteError`], with the line.
    pub fn parse(text: &str, path: &Path) -> Result<Site, SiteError> {
        let table = Table::parse(text, path)?;
        table.expect_keys(&SECTIONS)?;
        let file = File { sources: sources(&table)?, used: RefCell::new(BTreeSet::new()), table };
        let site = file.site()?;
        file.expect_all_used()?;
        Ok(site)
    }
}

/// The file, its sources, and which of them facts have named so far.
struct File {
    table: Table,
    sources: BTreeMap<String, Source>,
    used: RefCell<BTreeSet<String>>,
}

impl File {
    fn site(&self) -> Result<Site, SiteError> {
        let head = self.table.section("site")?.ok_or_else(|| self.table.missing("site", "who the site is"))?;
        let Known { facts: mut site, sources } =
            self.known(head, &["name", "title", "operator", "country", "scheduler", "default_partition"], sections::identity)?;
        site.named_by = sources;
        site.sources = self.sources.clone();
        site.partitions = self.each("partition", &sections::PARTITION, sections::partition)?;
        site.qos = self.each("qos", &sections::QOS, sections::qos)?;
        site.notes = self.each("note", &["text"], |table, _| Ok(Note { text: text(table, "text", "a sentence")? }))?;
        let submit_keys = ["required", "options", "account_form", "whole_nodes", "gpu_request"];
        site.submit = self.one("submit", &submit_keys, sections::submit)?;
        let network_keys = ["fabric", "ports", "port_gbit", "interfaces", "host_suffix", "environment"];
        site.network = self.one("network", &network_keys, sections::network)?;
        site.mpi = self.one("mpi", &["start"], sections::mpi)?;
        site.software = self.one("software", &["slurm", "node_daemon", "os", "gpu_driver"], sections::software)?;
        site.modules = self.one("modules", &["load", "on_login_nodes"], sections::modules)?;
        site.disk = self.one("disk", &["kind", "gb", "path"], sections::disk)?;
        site.internet = self.one("internet", &["compute_nodes", "words"], sections::internet)?;
        site.energy = self.one("energy", &["read_at"], sections::energy)?;
        if let Some(name) = site.default_partition.as_deref().filter(|name| site.partition(name).is_none()) {
            let near = nearest(name, site.partitions.iter().map(|known| known.facts.name.as_str()));
            let mean = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            return Err(head.refuse("default_partition", &format!("the NAME of a [partition.NAME] of this file{mean}")));
        }
        Ok(site)
    }

    /// A section that stands at most once.
    fn one<T>(
        &self,
        name: &str,
        keys: &[&str],
        read: impl FnOnce(&Table) -> Result<T, SiteError>,
    ) -> Result<Option<Known<T>>, SiteError> {
        self.table.section(name)?.map(|table| self.known(table, keys, read)).transpose()
    }

    /// Every section `[name.NAME]`.
    fn each<T>(
        &self,
        name: &str,
        keys: &[&str],
        read: impl Fn(&Table, &str) -> Result<T, SiteError>,
    ) -> Result<Vec<Known<T>>, SiteError> {
        let all = self.table.section(name)?.map_or_else(|| Ok(Vec::new()), Table::sections)?;
        all.into_iter().map(|(name, table)| self.known(table, keys, |table| read(table, name))).collect()
    }

    /// A group of facts, every key of which is known, with its sources.
    fn known<T>(
        &self,
        table: &Table,
        keys: &[&str],
        read: impl FnOnce(&Table) -> Result<T, SiteError>,
    ) -> Result<Known<T>, SiteError> {
        table.expect_keys(&[keys, &["sources"]].concat())?;
        let facts = read(table)?;
        let sources = table.texts("sources")?;
        if sources.is_empty() {
            return Err(table.missing("sources", "the names of the [source.NAME] that say these facts"));
        }
        if let Some(unknown) = sources.iter().find(|name| !self.sources.contains_key(*name)) {
            let near = nearest(unknown, self.sources.keys().map(String::as_str));
            let mean = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            return Err(table.refuse("sources", &format!("names of [source.NAME] of this file, and {unknown:?} is none{mean}")));
        }
        self.used.borrow_mut().extend(sources.iter().cloned());
        Ok(Known { facts, sources })
    }

    fn expect_all_used(&self) -> Result<(), SiteError> {
        let sections = self.table.section("source")?.map_or_else(|| Ok(Vec::new()), Table::sections)?;
        let used = self.used.borrow();
        match sections.into_iter().find(|(name, _)| !used.contains(*name)) {
            None => Ok(()),
            Some((name, table)) => Err(SiteError::UnusedSource { at: table.at.clone(), source_name: name.to_owned() }),
        }
    }
}

fn sources(file: &Table) -> Result<BTreeMap<String, Source>, SiteError> {
    let sections = file.section("source")?.map_or_else(|| Ok(Vec::new()), Table::sections)?;
    let one = |(name, table): (&str, &Table)| {
        table.expect_keys(&["url", "document", "seen_in", "read", "as_of", "via"])?;
        let link = |value: &Value| {
            let text = value.as_str()?;
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
            (!rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())).then(|| text.to_owned())
        };
        let url = table.map("url", "a link that begins with https:// or http://", link)?;
        let places: Vec<String> = [url, table.text("document")?, table.text("seen_in")?].into_iter().flatten().collect();
        let [at] = places.as_slice() else {
            let expected =
                "one of url = a page, document = a file of this repository, and seen_in = words for what has no address";
            return Err(table.missing("url", expected));
        };
        let date = |key, expected, parts: &[usize]| {
            table.map(key, expected, |value| value.as_str().filter(|text| is_date(text, parts)).map(str::to_owned))
        };
        let read = date("read", "the day on which it was read, \"YYYY-MM-DD\"", &[3])?;
        let read = read.ok_or_else(|| table.missing("read", "the day on which it was read, \"YYYY-MM-DD\""))?;
        let as_of = date("as_of", "the date of what was read, \"YYYY\", \"YYYY-MM\" or \"YYYY-MM-DD\"", &[1, 2, 3])?;
        Ok((name.to_owned(), Source { at: at.clone(), read, as_of, via: table.text("via")? }))
    };
    sections.into_iter().map(one).collect()
}

/// Year, month and day, as many as `parts` allows.
fn is_date(text: &str, parts: &[usize]) -> bool {
    let numbers: Vec<&str> = text.split('-').collect();
    let within = |index: usize, digits: usize, range: std::ops::RangeInclusive<u32>| {
        numbers.get(index).is_none_or(|word| {
            word.len() == digits
                && word.bytes().all(|byte| byte.is_ascii_digit())
                && word.parse().is_ok_and(|number| range.contains(&number))
        })
    };
    parts.contains(&numbers.len()) && within(0, 4, 2000..=2999) && within(1, 2, 1..=12) && within(2, 2, 1..=31)
}
