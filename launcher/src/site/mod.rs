//! `sirocco site`: the profiles of clusters, and whether one holds here.

pub(crate) mod ask;
mod check;
pub(crate) mod find;
mod host;
mod lines;
mod node;
pub(crate) mod show;
mod slurm;

use serde_json::{Value, json};

use crate::cli::{SiteAction, SiteList, SiteShow};
use crate::failure::{Failure, Kind};
use crate::output;
use find::Found;

pub(crate) fn run(action: &SiteAction) -> Result<(), Failure> {
    match action {
        SiteAction::List(arguments) => list(arguments),
        SiteAction::Show(arguments) => show(arguments),
        SiteAction::Check(arguments) => check::run(arguments),
    }
}

/// A profile that cannot be read is named after the others.
fn list(arguments: &SiteList) -> Result<(), Failure> {
    let (read, failed): (Vec<_>, Vec<_>) = find::all()?.into_iter().partition(Result::is_ok);
    let sites: Vec<Found> = read.into_iter().flatten().collect();
    if arguments.json {
        let one = |found: &Found| {
            let site = &found.site;
            json!({
                "name": site.name, "title": site.title, "country": site.country, "scheduler": site.scheduler,
                "default_partition": site.default_partition, "from": found.from,
            })
        };
        output::json(&json!({ "sites": sites.iter().map(one).collect::<Vec<_>>() }))?;
    } else {
        sites.iter().try_for_each(|found| {
            let site = &found.site;
            let partition = site.default_partition.as_deref().and_then(|name| site.partition(name));
            let nodes = partition.map_or_else(String::new, show::node);
            let country = site.country.as_deref().unwrap_or("");
            output::line(format!("{:14}{:24}{country:4}{nodes}", site.name, site.title).trim_end())
        })?;
    }
    failed.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

fn show(arguments: &SiteShow) -> Result<(), Failure> {
    let found = find::site(&arguments.site)?;
    if !arguments.json {
        return output::text(&show::page(&found));
    }
    let failed = |error| Failure::new(Kind::Failed, format_args!("cannot write JSON: {error}"));
    let mut object = serde_json::to_value(&found.site).map_err(failed)?;
    if let Value::Object(object) = &mut object {
        object.insert("refused".to_owned(), json!({ "cuda": show::refuses_cuda(&found.site) }));
        object.insert("from".to_owned(), json!(found.from));
    }
    output::json(&object)
}
