//! Which facts a rule reads, found in its own text, so that a missing one can be named.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reads {
    /// Paths from `principal`, `resource` or `context`, with dots.
    pub(crate) paths: BTreeSet<String>,
    /// Does it ask what something was made from (`resource in …`)?
    pub(crate) lineage: bool,
    /// What it asks `has` of, except `context has node`.
    pub(crate) has: Vec<String>,
}

impl Reads {
    /// What the rule reads whose Cedar JSON this is.
    pub(crate) fn of(policy: &Value) -> Reads {
        let scope = policy.pointer("/resource/op").and_then(Value::as_str).is_some_and(|op| op == "in");
        let lineage = scope || policy.pointer("/resource/in").is_some();
        let mut reads = Reads { lineage, ..Reads::default() };
        // A stack of our own: a long condition is a deep tree.
        let mut open: Vec<&Value> = policy.get("conditions").into_iter().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    for (key, inner) in fields {
                        reads.note(key, inner);
                        // The steps of a path are not facts of their own.
                        if key != "." || attribute(inner).is_none() {
                            open.push(inner);
                        }
                    }
                }
                Value::Array(values) => open.extend(values),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        reads
    }

    /// Does it read the fact at `path`, the record that holds it, or a part of it?
    pub(crate) fn reads(&self, path: &str) -> bool {
        let below = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
        self.paths.iter().any(|read| read == path || below(read, path) || below(path, read))
    }

    /// Does the want of the fact at `path` concern it? The path `resource` alone is the lineage.
    pub(crate) fn lacks(&self, path: &str) -> bool {
        if path == "resource" { self.lineage } else { self.reads(path) }
    }

    fn note(&mut self, operator: &str, operand: &Value) {
        let left = operand.get("left").and_then(path);
        match operator {
            "." => self.paths.extend(attribute(operand)),
            "in" => self.lineage |= about_artefact(left.as_deref()),
            "is" if operand.get("in").is_some() => self.lineage |= about_artefact(left.as_deref()),
            "has" => {
                let read = attribute(operand).unwrap_or_else(|| "an expression".to_owned());
                if read != "context.node" {
                    self.has.push(read);
                }
            }
            _ => {}
        }
    }
}

/// Anything that is not plainly a site, a node, an action or a principal may be an artefact.
fn about_artefact(path: Option<&str>) -> bool {
    !path.is_some_and(|path| matches!(path, "principal" | "action" | "context.site" | "context.node"))
}

/// `left.attr` as a path, if `left` is one.
fn attribute(operand: &Value) -> Option<String> {
    let left = path(operand.get("left")?)?;
    Some(format!("{left}.{}", operand.get("attr")?.as_str()?))
}

/// A variable, or an attribute of one, as a path.
fn path(expression: &Value) -> Option<String> {
    let (mut expression, mut names) = (expression, Vec::new());
    loop {
        if let Some(variable) = expression.get("Var") {
            names.push(variable.as_str()?);
            names.reverse();
            return Some(names.join("."));
        }
        let step = expression.get(".")?;
        names.push(step.get("attr")?.as_str()?);
        expression = step.get("left")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(rule: &str) -> Reads {
        let policy: cedar_policy::Policy = rule.parse().unwrap();
        Reads::of(&policy.to_json().unwrap())
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        let reads = reads(
            "forbid(principal, action, resource) when { principal.roles.contains(\"a\") || (if context.now < resource.expires then \
             resource.residency.countries.contains(context.site.country) else [resource.licences].isEmpty()) };",
        );
        for path in ["principal.roles", "context.now", "resource.expires", "context.site.country", "resource.licences"] {
            assert!(reads.reads(path), "{path}");
        }
        assert!(reads.reads("resource.residency"), "a part of it is read");
        assert!(reads.reads("resource.licences.x"), "the whole of it is read");
        assert!(!reads.reads("resource.residency.anywhere") && !reads.reads("resource.exp") && !reads.lineage);
        assert_eq!(reads.has, Vec::<String>::new());
    }

    #[test]
    fn lineage_and_has_are_found() {
        assert!(reads("forbid(principal, action, resource in Model::\"a\");").lineage);
        assert!(reads("forbid(principal, action, resource is Adapter in Model::\"a\");").lineage);
        assert!(reads("forbid(principal, action, resource) when { resource in Model::\"a\" };").lineage);
        assert!(reads("forbid(principal, action, resource) when { resource is Adapter in Model::\"a\" };").lineage);
        assert!(
            reads("forbid(principal, action, resource) when { (if true then resource else resource) in Model::\"a\" };").lineage
        );
        assert!(!reads("forbid(principal, action, resource) when { context.node in context.site };").lineage);
        assert_eq!(reads("forbid(principal, action, resource) when { context has node };").has, Vec::<String>::new());
        assert_eq!(reads("forbid(principal, action, resource) when { resource has expires };").has, ["resource.expires"]);
    }
}
