//! Texts that are wrong: each is refused with file, line, what was found and what was expected.

mod common;

use common::bare;
use sirocco_policy::{Cases, Facts, Rules};

fn rule_error(text: &str) -> String {
    Rules::parse(&bare("policy.cedar", text)).expect_err(text).to_string()
}

fn facts_error(text: &str) -> String {
    Facts::parse(&bare("facts.toml", text)).expect_err(text).to_string()
}

fn cases_error(text: &str) -> String {
    Cases::parse(&bare("cases.toml", text)[0]).expect_err(text).to_string()
}

fn starts(error: &str, with: &str, words: &[&str]) {
    assert!(error.starts_with(with), "expected it to start with {with:?}: {error}");
    for word in words {
        assert!(error.contains(word), "expected {word:?}: {error}");
    }
}

#[test]
fn text_that_is_not_cedar() {
    starts(
        &rule_error("// one\npermit(principal, action resource);"),
        "policy.cedar:2:26: not a Cedar policy:",
        &["resource", "expected"],
    );
    starts(
        &rule_error("@id(\"a\")\npermit(principal, action, resource)"),
        "policy.cedar:2:36: not a Cedar policy:",
        &["expected"],
    );
    starts(
        &rule_error("@id(\"a\")\npermit(principal, action, resource) when { recource.x };"),
        "policy.cedar:2:44: not a Cedar",
        &["recource"],
    );
}

#[test]
fn rules_that_contradict_the_schema() {
    let error = rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { resource.residence.anywhere };");
    starts(&error, "policy.cedar:3:8: rule \"a\" does not fit the schema:", &["residence", "did you mean `residency`"]);
    let error = rule_error("@id(\"a\")\npermit(principal, action == Action::\"trian\", resource);");
    starts(&error, "policy.cedar:2:29: rule \"a\" does not fit the schema:", &["trian", "train"]);
    let error =
        rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { resource.personalData == PersonalData::\"nonne\" };");
    starts(&error, "policy.cedar:3:", &["nonne"]);
    let error =
        rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { resource.classification.level == \"secret\" };");
    starts(&error, "policy.cedar:3:8: rule \"a\"", &["Long", "String"]);
    let error = rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { context.recipients.names.contains(\"a\") };");
    starts(&error, "policy.cedar:3:8: rule \"a\"", &["recipients"]);
}

#[test]
fn rules_that_can_never_apply_or_deceive() {
    let error = rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { false };");
    starts(&error, "policy.cedar:1:1: rule \"a\" does not fit the schema:", &["impossible"]);
    // Looks like "staff" and is not: the a is Cyrillic.
    let error =
        rule_error("@id(\"a\")\npermit(principal, action, resource)\nwhen { principal.roles.contains(\"st\u{430}ff\") };");
    starts(&error, "policy.cedar:3:33: rule \"a\"", &["mixed scripts"]);
}

#[test]
fn names_of_rules() {
    let rule = "permit(principal, action, resource);\n";
    starts(&rule_error(&format!("\n  {rule}")), "policy.cedar:2:3: this rule has no @id", &["expected @id"]);
    starts(&rule_error(&format!("@id\n{rule}")), "policy.cedar:1:1: this rule has no @id", &[]);
    let twice = format!("@id(\"a\")\n{rule}// again\n@id(\"a\") {rule}");
    starts(&rule_error(&twice), "policy.cedar:4:1: the @id \"a\" is already that of the rule at policy.cedar:1:1", &[]);
    starts(&rule_error(&format!("@id(\"a b\")\n{rule}")), "policy.cedar:1:1: rule \"a b\": its @id: expected letters", &[]);
    starts(
        &rule_error(&format!("@id(\"a\") @advise(\"b\")\n{rule}")),
        "policy.cedar:1:1: rule \"a\": @advise: expected only",
        &["@advice"],
    );
    let two = [bare("one.cedar", &format!("@id(\"a\") {rule}")), bare("two.cedar", &format!("@id(\"a\") {rule}"))].concat();
    starts(
        &Rules::parse(&two).unwrap_err().to_string(),
        "two.cedar:1:1: the @id \"a\" is already that of the rule at one.cedar:1:1",
        &[],
    );
}

/// A rule that asks `has` could turn a missing fact into a permission.
#[test]
fn rules_that_hide_a_missing_fact() {
    let error = rule_error(
        "@id(\"a\")\nforbid(principal, action, resource)\nwhen { resource has expires && resource.expires < context.now };",
    );
    starts(&error, "policy.cedar:1:1: rule \"a\": `has` is asked of resource.expires: expected no test", &["always refuses"]);
}

#[test]
fn forms_that_are_not_taken() {
    starts(
        &rule_error("@id(\"a\")\npermit(principal == ?principal, action, resource);"),
        "policy.cedar:1:1: rule",
        &["template"],
    );
    let deep = format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}true{} }};", "(".repeat(200), ")".repeat(200));
    starts(&rule_error(&deep), "policy.cedar:2:", &["brackets inside each other", "expected fewer"]);
    for row in [4000, 30_000] {
        let long = format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}true }};", "true && ".repeat(row));
        starts(&rule_error(&long), "policy.cedar:2:", &["more than 500 operators in one rule", "several rules"]);
    }
    let long = format!("@id(\"a\") @advice(\"{}\")\npermit(principal, action, resource);", "word ".repeat(4000));
    starts(&rule_error(&long), "policy.cedar:1:1: not a Cedar policy: a rule of more than 16384 bytes", &["several rules"]);
    starts(&rule_error(&"// words\n".repeat(40_000)), "policy.cedar:1:1:", &["360000 bytes"]);
}

/// What is deep without brackets: it is refused, or read, on a stack of a megabyte, and does not end the program.
#[test]
fn deep_rules_do_not_use_up_the_stack() {
    let row = |part: &str, end: &str| {
        let times = 16_000 / part.len();
        format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}{end} }};", part.repeat(times))
    };
    let texts = [
        row("if true then true else ", "true"),
        row("if if ", "true"),
        row("!", "true"),
        row("-", "1 == 1"),
        row("true&&", "true"),
        row("true||", "true"),
        row("1+", "1 == 1"),
        row("1-", "1 == 1"),
        row("1*", "1 == 1"),
        row("1==", "1"),
        row("resource.", "residency"),
        row("resource in ", "resource"),
        row("if true then ", "true"),
        // As much as is taken.
        format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}true }};", "true && ".repeat(499)),
        format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}1 == 1 }};", "1+".repeat(499)),
        format!("@id(\"a\")\npermit(principal, action, resource) when {{ {}true }};", "if true then true else ".repeat(100)),
        format!("@id(\"a\")\npermit(principal, action, resource) {};", "when{true}unless{false}".repeat(600)),
        "if true then true else ".repeat(10_000),
    ];
    for text in texts {
        let words: String = text.chars().take(100).collect();
        let read = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            let rules = Rules::parse(&bare("policy.cedar", &text));
            let asked = common::request("prepare", "data:a", "s");
            rules.map(|rules| sirocco_policy::explain(&sirocco_policy::Gate::new(rules, common::facts("")), &asked)).is_ok()
        });
        assert!(read.unwrap().join().is_ok(), "{words}");
    }
    let deep = row("if true then true else ", "true");
    starts(&rule_error(&deep), "policy.cedar:2:", &["more than 100 times `if` in one rule", "expected fewer"]);
}

/// Brackets in strings and comments are no nesting.
#[test]
fn words_may_hold_brackets() {
    let sad =
        "// :(\n".repeat(200) + &format!("@id(\"a\") @advice(\"\\\"{}\")\npermit(principal, action, resource);", "(".repeat(200));
    assert!(Rules::parse(&bare("policy.cedar", &sad)).is_ok());
}

#[test]
fn facts_that_are_not_facts() {
    starts(&facts_error("[data.a]\nresidency = [\"LU\"\n"), "facts.toml:", &[]);
    starts(
        &facts_error("[data.a]\nresidence = \"LU\"\n"),
        "facts.toml:2:1: unknown field `residence`, expected one of",
        &["residency"],
    );
    starts(&facts_error("[date.a]\n"), "facts.toml:1:2: unknown field `date`, expected one of", &["data"]);
    let wrong = [
        ("residency = \"XX\"", "a country (two capital letters"),
        ("residency = [\"lu\"]", "or a list of countries"),
        ("classification = \"top\"", "\"confidential\", \"secret\""),
        ("licence = \"all mine\"", "an SPDX identifier"),
        ("commercial_use = \"yes\"", "true, false"),
        ("personal_data = 3", "\"pseudonymised\""),
        ("purposes = \"all\"", "\"any\" or a list"),
        ("expires = 2027-02-30", ""),
        ("expires = \"2027-02-31\"", "the last day of use"),
        ("expires = 2027-02-31", ""),
        ("expires = \"soon\"", "the last day of use"),
        ("sha256 = \"abc\"", "64 lowercase hexadecimal digits"),
        ("licence = \"CC-BY-NC-4.0\"\ncommercial_use = true", "forbids commercial use"),
    ];
    for (line, expected) in wrong {
        starts(&facts_error(&format!("[data.a]\n{line}\n")), "facts.toml:", &[expected]);
    }
    starts(
        &facts_error("[data.a]\n\nclassification = \"top\"\n"),
        "facts.toml:3:18: found \"top\", expected",
        &["or \"unknown\""],
    );
    starts(
        &facts_error("[site.a]\ncountry = \"XX\"\n"),
        "facts.toml:2:11: the country \"XX\": expected two capital letters",
        &[],
    );
    starts(
        &facts_error("[site.a]\nconfinement = 6\n"),
        "facts.toml:2:15: confinement 6: expected a level: 0 (environment), 1 (seccomp), 2 (network_namespace), 3 (landlock), 4 (hosts)",
        &[],
    );
    let twice = [bare("a.toml", "[site.a]\n"), bare("b.toml", "[site.a]\n")].concat();
    let error = Facts::parse(&twice).unwrap_err().to_string();
    starts(&error, "b.toml: [site.a] is already described in a.toml", &["expected one description"]);
}

/// Every reader of days knows the calendar: files, requests, and rules.
#[test]
fn the_thirty_first_of_february_is_no_day() {
    for (day, good) in [("2027-02-28", true), ("2027-02-31", false), ("2027-02-29", false), ("2028-02-29", true)] {
        assert_eq!(Facts::parse(&bare("f.toml", &format!("[data.a]\nexpires = {day}\n"))).is_ok(), good, "{day}");
        assert_eq!(Facts::parse(&bare("f.toml", &format!("[data.a]\nexpires = \"{day}\"\n"))).is_ok(), good, "{day}");
        let rule = format!("@id(\"a\")\npermit(principal, action, resource) when {{ context.now < datetime(\"{day}\") }};");
        assert_eq!(Rules::parse(&bare("policy.cedar", &rule)).is_ok(), good, "{day}");
        let asked = format!(r#"{{"who":"person:a","action":"prepare","artefact":"data:b","site":"s","day":"{day}"}}"#);
        assert_eq!(serde_json::from_str::<sirocco_policy::Request>(&asked).is_ok(), good, "{day}");
    }
}

#[test]
fn the_word_unknown_is_the_same_as_nothing() {
    let said = "residency = \"unknown\"\nclassification = \"unknown\"\nlicence = \"unknown\"\ncommercial_use = \"unknown\"\n\
                personal_data = \"unknown\"\npurposes = \"unknown\"\nexpires = \"unknown\"\n";
    let name = "data:a".parse().unwrap();
    let (said, silent) = (common::facts(&format!("[data.a]\n{said}")), common::facts("[data.a]\n"));
    assert_eq!(said.described(&name).unwrap().labels, silent.described(&name).unwrap().labels);
}

#[test]
fn cases_that_are_not_complete() {
    let whole = "name = \"n\"\nexpect = \"allow\"\nwho = \"person:a\"\naction = \"train\"\nartefact = \"checkpoint:c\"\nsite = \"s\"\nday = 2026-11-22\n";
    assert_eq!(Cases::parse(&bare("cases.toml", &format!("[[case]]\n{whole}"))[0]).unwrap().cases.len(), 1);
    for line in whole.lines() {
        let key = line.split(' ').next().unwrap();
        let error = cases_error(&format!("\n[[case]]\n{}", whole.replace(&format!("{line}\n"), "")));
        starts(&error, "cases.toml:2:", &[&format!("this case has no {key}: expected {key} =")]);
    }
    let usual = whole.lines().skip(2).collect::<Vec<_>>().join("\n");
    let text = format!("[usual]\n{usual}\n[[case]]\nname = \"n\"\nexpect = \"deny\"\nwithout = [\"site\"]\n");
    starts(&cases_error(&text), "cases.toml:", &["without = [\"site\"]: expected node"]);
    starts(&cases_error("[usual]\nname = \"n\"\n"), "cases.toml:1:1: [usual] holds name", &[]);
    starts(&cases_error(&format!("[[case]]\n{whole}[[case]]\n{whole}")), "cases.toml:9:", &["expected a name of its own"]);
    let wrong = [
        ("who = \"person:a\"", "who = \"a\"", "expected person:NAME or service:NAME"),
        ("action = \"train\"", "action = \"learn\"", "expected one of"),
        ("\"checkpoint:c\"", "\"file:c\"", "expected KIND:NAME"),
        ("2026-11-22", "\"today\"", "expected a day such as 2026-11-22"),
        ("\"allow\"", "\"yes\"", "expected `allow` or `deny`"),
        ("site =", "sites =", "expected one of"),
    ];
    for (right, other, expected) in wrong {
        starts(&cases_error(&format!("[[case]]\n{}", whole.replace(right, other))), "cases.toml:", &[expected]);
    }
}
