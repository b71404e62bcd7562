//! Prompt and answer templates: text with `{column}` in it; `{{` and `}}` stand for the braces themselves.

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(usize),
}

impl Template {
    /// Parses a template over the columns `names`; the error says what was found and what was expected.
    pub(crate) fn parse(template: &str, names: &[String]) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let tail = &rest[at..];
            if tail.starts_with("{{") || tail.starts_with("}}") {
                text.push_str(&tail[..1]);
                rest = &tail[2..];
                continue;
            }
            let name = tail.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = name else {
                return Err(format!("found a single brace in \"{template}\"; expected {{column}}, or {{{{ for the brace itself"));
            };
            let Some(column) = names.iter().position(|known| known == name) else {
                return Err(format!("found the unknown column {{{name}}}; expected one of {}", names.join(", ")));
            };
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(Part::Column(column));
            rest = after;
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Ok(Template { parts })
    }

    /// The columns that the template uses.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(column) => Some(*column),
            Part::Text(_) => None,
        })
    }

    /// The text for one row, which has as many cells as there are column names.
    pub(crate) fn render(&self, row: &[String]) -> String {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(match part {
                Part::Text(fixed) => fixed,
                Part::Column(column) => row.get(*column).map_or("", String::as_str),
            });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_braces_and_mistakes() {
        let names = ["en".to_owned(), "ar".to_owned()];
        let template = Template::parse("To {{x}}: {ar}/{en}!", &names).unwrap();
        assert_eq!(template.render(&["a".into(), "b".into()]), "To {x}: b/a!");
        assert_eq!(template.columns().collect::<Vec<_>>(), [1, 0]);
        assert!(Template::parse("{eng}", &names).unwrap_err().contains("unknown column {eng}; expected one of en, ar"));
        assert!(Template::parse("a } b", &names).is_err());
        assert!(Template::parse("a {en", &names).is_err());
    }
}
