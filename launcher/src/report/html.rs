//! Templates to pages. Everything that comes from a file is escaped: a template's name ends in `.html`.
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use crate::failure::{Failure, Kind};

/// By the name under which they know each other.
const TEMPLATES: [(&str, &str); 6] = [
    ("frame.html", include_str!("../../templates/frame.html")),
    ("head.html", include_str!("../../templates/head.html")),
    ("chart.html", include_str!("../../templates/chart.html")),
    ("run.html", include_str!("../../templates/run.html")),
    ("comparison.html", include_str!("../../templates/comparison.html")),
    ("evidence.html", include_str!("../../templates/evidence.html")),
];

/// The page of a template.
pub(crate) fn render(name: &str, values: Value) -> Result<String, Failure> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let render = || {
        TEMPLATES.iter().try_for_each(|(name, text)| environment.add_template(name, text))?;
        environment.get_template(name)?.render(values)
    };
    render().map_err(|error: minijinja::Error| Failure::new(Kind::Failed, format_args!("the template {name}: {error:#}")))
}
