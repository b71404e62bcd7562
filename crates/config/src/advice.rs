//! Advice that more than one program gives, with commands as a shell takes them.
use std::path::Path;

/// A word as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What to type where the newest checkpoint of a run cannot be used; `bad` is its directory, or LATEST, and `good` the step of
/// the newest one that can.
pub fn other_checkpoint(bad: &Path, good: Option<u64>) -> String {
    let checkpoints = bad.parent().unwrap_or(bad);
    let run = checkpoints.parent().unwrap_or(checkpoints).display().to_string();
    let (directory, latest) = (shell_word(&run), shell_word(&format!("{run}/checkpoints/LATEST")));
    match good {
        Some(step) => format!("to go on from step {step}: echo step-{step:08} > {latest} && sirocco train {directory}"),
        None => {
            let (file, again) = (shell_word(&format!("{run}/run.toml")), shell_word(&format!("{run}-again")));
            format!("no checkpoint of this run is whole; to do it again from its beginning: sirocco train {file} --dir {again}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("train.steps=80"), "train.steps=80");
        assert_eq!(shell_word("data.train=[a, 'b']"), "'data.train=[a, '\\''b'\\'']'");
        assert_eq!(shell_word(""), "''");
        for word in
            ["runs/a;b", "a&b", "a(1)", "a`id`", "*", "a|b", "a b", "$HOME", "a'b\"c", "~", "#", "a\\b", "!", "{a,b}", "<>"]
        {
            let printed = Command::new("sh").args(["-c", &format!("printf %s {}", shell_word(word))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&printed.stdout), word);
        }
    }

    #[test]
    fn what_to_type_beside_a_damaged_checkpoint_is_said_whole() {
        let bad = Path::new("/data/my runs/x;y/checkpoints/step-00000010");
        assert_eq!(
            other_checkpoint(bad, Some(5)),
            "to go on from step 5: echo step-00000005 > '/data/my runs/x;y/checkpoints/LATEST' && sirocco train '/data/my runs/x;y'"
        );
        let nothing = other_checkpoint(Path::new("/runs/x/checkpoints/LATEST"), None);
        assert!(nothing.ends_with("sirocco train /runs/x/run.toml --dir /runs/x-again"), "{nothing}");
    }
}
