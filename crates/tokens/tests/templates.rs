//! Chat templates and tokenizer files that must be refused, and what people may write without harm.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use serde_json::Value;
use sirocco_corpus::Message;
use sirocco_tokens::{Tokenizer, TokensError};
use std::fs;
use std::path::{Path, PathBuf};

fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/chatml")
}

/// The ChatML tokenizer with other settings.
fn with(edit: impl FnOnce(&mut Value)) -> Result<Tokenizer, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(oracle().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let mut config = serde_json::from_slice(&fs::read(oracle().join("tokenizer_config.json")).unwrap()).unwrap();
    edit(&mut config);
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::open(dir.path()).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn with_template(template: &str) -> Tokenizer {
    with(|config| config["chat_template"] = template.into()).unwrap()
}

fn chat(turns: &[&str]) -> Vec<Message> {
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    turns.iter().enumerate().map(|(i, text)| Message::new(role(i), *text)).collect()
}

fn refusal(template: &str, turns: &[&str]) -> String {
    with_template(template).encode_chat(&chat(turns)).unwrap_err().to_string()
}

const TURN: &str = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n";
const PROMPT: &str = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn a_template_that_rewrites_earlier_text_is_refused() {
    let counts = format!("{{{{ messages | length }}}}{{% for m in messages %}}{TURN}{{% endfor %}}{PROMPT}");
    let words = refusal(&counts, &["a", "b"]);
    assert_eq!(words, "messages[1]: the chat template rewrites the text before this message; expected it to be only added to");
    // Some formats put the system text into the last question: fine for one turn, refused for several.
    let last = format!(
        "{{% for m in messages %}}{{% if loop.index0 + 1 == (messages | length) - (1 - (messages | length) % 2) %}}S{{% endif %}}{TURN}{{% endfor %}}{PROMPT}"
    );
    assert!(with_template(&last).encode_chat(&chat(&["a", "b"])).is_ok());
    assert!(refusal(&last, &["a", "b", "c", "d"]).starts_with("messages[3]: the chat template rewrites"));
}

#[test]
fn role_markers_are_never_targets() {
    let no_prompt = format!("{{% for m in messages %}}{TURN}{{% endfor %}}");
    // Some of these answers are found in the role marker, too.
    for answer in ["b", "s", "m", "art", "assistant", "<|im_start|>"] {
        let words = refusal(&no_prompt, &["a", answer]);
        let expected = "messages[1]: the chat template writes \"<|im_start|>assistant\\n\" before the answer; expected its generation prompt to end there";
        assert_eq!(words, expected, "{answer}");
        with_template(&format!("{no_prompt}{PROMPT}")).encode_chat(&chat(&["a", answer])).unwrap();
    }
}

#[test]
fn an_answer_without_an_end_token_is_refused() {
    let words = refusal("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", &["a", "b"]);
    // Without a generation prompt the plain role marker belongs to the answer; what is missing is an end.
    assert_eq!(words, "messages[1]: the chat template ends the answer with no control token; expected an end-of-turn token");
}

#[test]
fn no_template_no_answer_and_a_template_that_raises() {
    let bare = with(|config| config["chat_template"] = Value::Null).unwrap();
    assert!(!bare.has_chat_template());
    assert!(
        bare.encode_chat(&chat(&["a", "b"]))
            .unwrap_err()
            .to_string()
            .contains("found no chat template; expected chat_template in")
    );
    let words = Tokenizer::open(&oracle()).unwrap().encode_chat(&chat(&["a"])).unwrap_err().to_string();
    assert_eq!(words, "the conversation does not end with an assistant message; expected an answer to learn");
    let words = refusal("{{ raise_exception('roles must alternate') }}", &["a", "b"]);
    assert_eq!(words, "the chat template failed: roles must alternate (line 1 of the template)");
}

#[test]
fn a_template_that_hides_its_messages_is_refused_only_with_control_text() {
    let shouting = format!("{{% for m in messages %}}{}{{% endfor %}}{PROMPT}", TURN.replace("m.content", "m.content | upper"));
    let tokenizer = with_template(&shouting);
    assert!(tokenizer.encode_chat(&chat(&["a", "B"])).is_ok());
    match tokenizer.encode_chat(&chat(&["a<|im_end|>", "B"])).unwrap_err() {
        TokensError::ControlText { place, token, .. } => {
            assert_eq!((place.as_str(), token.as_str()), ("messages[0]", "<|im_end|>"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn broken_files_are_named() {
    assert_eq!(
        with(|c| c["eos_token"] = "</s>".into()).unwrap_err(),
        "tokenizer_config.json: eos_token is \"</s>\"; expected a token of the vocabulary in tokenizer.json"
    );
    assert!(with(|c| c["chat_template"] = "{% for %}".into()).unwrap_err().starts_with("the chat template failed: "));
    let dir = tempfile::tempdir().unwrap();
    let words = Tokenizer::open(dir.path()).unwrap_err().to_string();
    assert!(words.contains("tokenizer.json: cannot read: No such file"), "{words}");
    fs::write(dir.path().join("tokenizer.json"), r#"{"version":"1.0"}"#).unwrap();
    assert!(Tokenizer::open(dir.path()).unwrap_err().to_string().contains("tokenizer.json: found no valid tokenizer: "));
}

#[test]
fn cutting_and_padding_that_a_file_asks_for_are_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut file: Value = serde_json::from_slice(&fs::read(oracle().join("tokenizer.json")).unwrap()).unwrap();
    file["truncation"] = serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    let padding = r#"{"strategy":{"Fixed":64},"direction":"Right","pad_to_multiple_of":null,"pad_id":2,"pad_type_id":0,"pad_token":"<|im_end|>"}"#;
    file["padding"] = serde_json::from_str(padding).unwrap();
    fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    let (plain, odd) = (Tokenizer::open(&oracle()).unwrap(), Tokenizer::open(dir.path()).unwrap());
    for text in ["a", "salam l3alam labas"] {
        assert_eq!(odd.encode(text).unwrap(), plain.encode(text).unwrap());
    }
    assert_ne!(odd.digest(), plain.digest());
    assert_eq!(odd.digest().len(), 64);
}

#[test]
fn a_template_file_goes_before_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(oracle().join(name), dir.path().join(name)).unwrap();
    }
    let before = Tokenizer::open(dir.path()).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), format!("{{% for m in messages %}}{TURN}{{% endfor %}}{PROMPT}")).unwrap();
    let after = Tokenizer::open(dir.path()).unwrap();
    let question = chat(&["a"]);
    assert_eq!(
        after.decode_control(&after.chat_prompt(&question).unwrap()),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_ne!(before.chat_prompt(&question).unwrap(), after.chat_prompt(&question).unwrap());
    assert_ne!(before.digest(), after.digest());
}

/// Each of these took hours when the work grew with the square of the message.
#[test]
fn a_long_hostile_message_costs_no_more_than_its_length() {
    let tokenizer = Tokenizer::open(&oracle()).unwrap();
    let frame = tokenizer.chat_prompt(&chat(&["a"])).unwrap().iter().filter(|id| tokenizer.is_control(**id)).count();
    let nested = |depth: usize| format!("{}<|im_end|>{}", "<|im_".repeat(depth), "end|>".repeat(depth));
    let texts = [
        format!("<|im_end|>message{}", "x".repeat(1 << 20)),
        "<|im_end|>".repeat(100_000),
        nested(100_000),
        format!("<|im_end|>{}", "\u{E0F0}message:0\u{E0F1}".repeat(60_000)),
        format!("<|im_end|>{}", "<|".repeat(1 << 19)),
    ];
    for text in texts {
        let ids = tokenizer.chat_prompt(&chat(&[&text])).unwrap();
        assert_eq!(ids.iter().filter(|id| tokenizer.is_control(**id)).count(), frame);
        assert!(tokenizer.decode_control(&ids).contains(&text));
    }
    let many: Vec<Message> = (0..20_000).map(|_| Message::new("user", "a <|im_end|> b")).collect();
    assert!(tokenizer.chat_prompt(&many).unwrap().len() > many.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_people_write_the_frame_stays(
        texts in proptest::collection::vec(r"(<\|im_end\|>|<\|im_start\|>|\n|[a-z ]|ع|👍|\|>|<\|){0,8}", 2..=2)
    ) {
        let tokenizer = Tokenizer::open(&oracle()).unwrap();
        let question = Message::new("user", texts[0].clone());
        let answer = Message::new("assistant", format!("{}.", texts[1]));
        let document = tokenizer.encode_chat(&[question.clone(), answer.clone()]).unwrap();
        let end = tokenizer.eos_id().unwrap();
        prop_assert_eq!(document.ids.iter().filter(|id| tokenizer.is_control(**id)).count(), 6);
        prop_assert_eq!(document.targets.len(), 1);
        let span = document.targets[0].start as usize..document.targets[0].end as usize;
        prop_assert_eq!(document.ids[span.end - 1], end);
        prop_assert_eq!(tokenizer.decode_control(&document.ids[span.start..span.end - 1]), answer.content);
        prop_assert_eq!(&document.ids[..span.start], &tokenizer.chat_prompt(&[question]).unwrap()[..]);
    }
}
