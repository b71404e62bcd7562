//! Whose signatures count: those of rules, those of people who approve, and what the machine has to say about both.
use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Finished};
use crate::policy::{EVERY, FACTS, asked, bench};

#[test]
fn a_signed_set_of_which_a_byte_was_changed_is_named() {
    let bench = bench(EVERY);
    assert_eq!(bench.run(&["keys", "new", "office"]).code, Some(0));
    let signed = bench.run(&["policy", "sign", "rules", "--key", "office/release.key"]);
    assert_eq!(signed.code, Some(0), "{signed:?}");
    std::fs::create_dir(bench.path("trust")).unwrap();
    std::fs::copy(bench.path("office/release.pub"), bench.path("trust/office.pub")).unwrap();
    let expect_no_signer = |why: &str| {
        let commands: [(&[&str], _); 3] = [(&["check"], "local"), (&["submit", "--dry-run"], "slurm"), (&["train"], "local")];
        for (words, site) in commands {
            let refused = asked(&bench, &[words, &["run.toml", "--set", "policy.trust=trust"]].concat(), site);
            assert!(refused.code == Some(2) && refused.err.contains(why), "{words:?}: {refused:?}");
        }
    };
    bench.write("trust/roles.json", "{\"office\": [\"policy\"]}");
    expect_no_signer("which has none yet");
    assert_eq!(bench.run(&["keys", "new", "config/sirocco/keys"]).code, Some(0));
    expect_no_signer("may not sign checkpoints there");
    std::fs::copy(bench.path("config/sirocco/keys/release.pub"), bench.path("trust/release.pub")).unwrap();
    bench.write("trust/roles.json", "{\"office\": [\"policy\"], \"release\": [\"checkpoint\"]}");
    let check = || bench.run(&["check", "run.toml", "--set", "policy.set=rules", "--set", "policy.trust=trust"]);
    let good = check();
    assert!(good.code == Some(0) && good.out.contains("signed by office"), "{good:?}");
    bench.write("rules/facts.toml", &FACTS.replace("\"LU\"", "\"IT\""));
    let changed = check();
    assert!(changed.code == Some(4) && changed.err.contains("facts.toml"), "{changed:?}");
    bench.write("rules/facts.toml", FACTS);
    assert_eq!(bench.run(&["keys", "new", "stranger"]).code, Some(0));
    assert_eq!(bench.run(&["policy", "sign", "rules", "--key", "stranger/release.key"]).code, Some(0));
    let stranger = check();
    assert!(stranger.code == Some(4) && stranger.err.contains("model.sig"), "{stranger:?}");
}

const NO_NAMESPACE: &str = "skipped: this account may not make a mount namespace";

/// Runs commands on a machine whose /etc is the workplace's `etc`, in a mount namespace. Nothing where this account may not make one.
fn on_machine(bench: &Bench) -> Option<impl Fn(&[&str]) -> Finished + '_> {
    std::fs::copy("/etc/passwd", bench.path("etc/passwd")).unwrap();
    let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
    let in_namespace = |program: &Path, words: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(bench.path("etc"))
            .arg(program)
            .args(words)
            .current_dir(bench.path(""));
        command.env("XDG_CONFIG_HOME", bench.path("config")).env("XDG_STATE_HOME", bench.path("state"));
        Finished::new(&command.output().unwrap(), &bench.path(""))
    };
    let can = in_namespace(Path::new("true"), &[]).code == Some(0);
    can.then_some(move |words: &[&str]| in_namespace(&bench.path("bin/sirocco"), words))
}

#[test]
fn a_machine_that_demands_signatures_takes_no_other_set() {
    let bench = bench(EVERY);
    bench.write("etc/sirocco/demands.toml", "signed_policies = true\n");
    let Some(run) = on_machine(&bench) else { return eprintln!("{NO_NAMESPACE}") };
    let check = ["check", "run.toml", "--set", "policy.set=rules"];
    let refused = run(&check);
    assert!(refused.code == Some(2) && refused.err.contains("expected an absolute path, or sha256"), "{refused:?}");
    let (facts, here) = (FACTS.to_owned(), bench.path("").canonicalize().unwrap());
    bench.write("rules/facts.toml", &facts.replace("path = \"", &format!("path = \"{}/", here.display())));
    let refused = run(&check);
    assert!(refused.code == Some(3) && refused.err.contains("demands signed policies"), "{refused:?}");
    assert_eq!(asked(&bench, &["check", "run.toml"], "local").code, Some(0));
}

#[test]
fn nobody_appoints_his_own_officer_where_the_machine_names_one() {
    let bench = reviewed();
    let (key, explain) = ("amal/release.key", ["policy", "explain", "runs/tiny", "--action", "export", "--json"]);
    bench.run(&["policy", "approve", "runs/tiny", "--action", "export", "--as", "amal", "--key", key]);
    let is_allowed = |explained: &Finished| explained.json()["decision"]["allowed"] == true;
    assert!(is_allowed(&bench.run(&explain)), "as the run's own directory says");
    let name = |key: &str| {
        std::fs::copy(bench.path(key).join("release.pub"), bench.path("etc/sirocco/trust/amal.pub")).unwrap();
    };
    bench.write("etc/sirocco/trust/roles.json", "{\"amal\": [\"approve\"]}");
    name("other");
    let Some(run) = on_machine(&bench) else { return eprintln!("{NO_NAMESPACE}") };
    let refused = run(&explain);
    assert!(!is_allowed(&refused), "{refused:?}");
    name("amal");
    let allowed = run(&explain);
    assert!(is_allowed(&allowed), "{allowed:?}");
}

const REVIEWED: [&str; 4] = ["--set", "policy.set=rules", "--set", "policy.trust=trust"];

/// A run of which nothing is exported before a reviewer approves. `trust/` believes the keys in `amal/` for that, and not those in `other/`.
fn reviewed() -> Bench {
    let bench = bench(EVERY);
    let account = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let permit = "@id(\"everybody\")\npermit(principal, action, resource);\n@id(\"reviewed\")\nforbid(principal, action == \
                  Action::\"export\", resource)\nunless { context.approvedByRoles.contains(\"reviewer\") };\n";
    bench.write("rules/policy.cedar", permit);
    let people = format!("\n[person.amal]\nroles = [\"reviewer\"]\n\n[person.{}]\nroles = [\"engineer\"]\n", account.trim());
    bench.write("rules/facts.toml", &(FACTS.to_owned() + &people));
    for name in ["amal", "other"] {
        assert_eq!(bench.run(&["keys", "new", name]).code, Some(0));
    }
    std::fs::create_dir(bench.path("trust")).unwrap();
    std::fs::copy(bench.path("amal/release.pub"), bench.path("trust/amal.pub")).unwrap();
    assert_eq!(bench.run(&["keys", "new", "config/sirocco/keys"]).code, Some(0));
    std::fs::copy(bench.path("config/sirocco/keys/release.pub"), bench.path("trust/release.pub")).unwrap();
    bench.write("trust/roles.json", "{\"amal\": [\"approve\"], \"release\": [\"checkpoint\", \"release\"]}");
    assert_eq!(bench.run(&[&["train", "run.toml"][..], &REVIEWED].concat()).code, Some(0));
    bench
}

#[test]
fn an_approval_counts_for_one_run_and_the_key_of_one_person() {
    let bench = reviewed();
    let is_allowed = |run: &str| {
        let explained = bench.run(&["policy", "explain", run, "--action", "export", "--json"]).json();
        explained["decision"]["allowed"] == true
    };
    let approve = |run: &str, key: &str| {
        let key = format!("{key}/release.key");
        bench.run(&["policy", "approve", run, "--action", "export", "--as", "amal", "--key", &key, "--json"]).json()
    };
    assert!(!is_allowed("runs/tiny"));
    assert_eq!(approve("runs/tiny", "other")["counts"], false);
    assert!(!is_allowed("runs/tiny"), "the key of somebody else");
    assert_eq!(approve("runs/tiny", "amal")["counts"], true);
    assert!(is_allowed("runs/tiny"));
    assert_eq!(
        bench.run(&[&["train", "run.toml", "--dir", "runs/second", "--set", "seed=8"][..], &REVIEWED].concat()).code,
        Some(0)
    );
    std::fs::create_dir(bench.path("runs/second/approvals")).unwrap();
    for entry in std::fs::read_dir(bench.path("runs/tiny/approvals")).unwrap() {
        let file = entry.unwrap().path();
        std::fs::copy(&file, bench.path("runs/second/approvals").join(file.file_name().unwrap())).unwrap();
    }
    assert!(!is_allowed("runs/second"), "an approval of another run");
}
