//! The tokenizers and chats of tests/oracle: the same ids and spans as Transformers gives.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use sirocco_corpus::Message;
use sirocco_tokens::Tokenizer;
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

fn open(name: &str) -> (Tokenizer, Value) {
    let oracle = std::fs::read(directory().join(format!("{name}.json"))).unwrap();
    (Tokenizer::open(&directory().join(name)).unwrap(), serde_json::from_slice(&oracle).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn compare(name: &str) {
    let (tokenizer, oracle) = open(name);
    for (text, expected) in oracle["texts"].as_object().unwrap() {
        assert_eq!(tokenizer.encode(text).unwrap(), ids(expected), "{name}: {text:?}");
        // A tokenizer that puts a space before every text cannot keep one that was there.
        let kept = if name == "inst" { text.trim_start() } else { text };
        assert_eq!(tokenizer.decode(&ids(expected)), kept, "{name}");
    }
    assert_eq!(tokenizer.vocab_size() as u64, oracle["vocab_size"]);
    for (title, case) in oracle["chats"].as_object().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let document = tokenizer.encode_chat(&messages).unwrap();
        let targets: Vec<[u32; 2]> = serde_json::from_value(case["targets"].clone()).unwrap();
        assert_eq!(document.ids, ids(&case["ids"]), "{name}: {title}");
        let found: Vec<[u32; 2]> = document.targets.iter().map(|span| [span.start, span.end]).collect();
        assert_eq!(found, targets, "{name}: {title}");
        let prompt = tokenizer.chat_prompt(&messages[..messages.len() - 1]).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]), "{name}: {title}");
    }
    assert!(oracle["chats"].as_object().unwrap().len() >= 11);
}

#[test]
fn byte_level_tokenizer_and_chatml() {
    compare("chatml");
}

#[test]
fn sentencepiece_like_tokenizer_and_inst() {
    compare("inst");
}

#[test]
fn the_end_token_is_learnt_and_what_follows_it_is_not() {
    let (tokenizer, _) = open("chatml");
    let chat = [Message::new("user", "a"), Message::new("assistant", "b")];
    let document = tokenizer.encode_chat(&chat).unwrap();
    let span = document.targets[0].start as usize..document.targets[0].end as usize;
    assert_eq!(tokenizer.decode_control(&document.ids[span.clone()]), "b<|im_end|>");
    assert_eq!(tokenizer.decode_control(&document.ids[span.end..]), "\n");
    assert_eq!(document.target_count(), 2);
}

#[test]
fn an_answer_that_begins_with_white_space_is_not_merged_with_the_prompt() {
    let (tokenizer, _) = open("chatml");
    let question = Message::new("user", "a");
    let prompt = tokenizer.chat_prompt(std::slice::from_ref(&question)).unwrap();
    for answer in ["\n\nb", "  b", "\tb"] {
        let document = tokenizer.encode_chat(&[question.clone(), Message::new("assistant", answer)]).unwrap();
        assert_eq!(document.ids[..prompt.len()], prompt);
        assert_eq!(document.targets[0].start as usize, prompt.len());
        assert_eq!(tokenizer.decode(&document.ids[prompt.len()..]), format!("{answer}\n"));
    }
}

#[test]
fn control_text_never_becomes_a_control_token() {
    for (name, control) in [("chatml", "<|im_end|>"), ("inst", "[/INST]")] {
        let (tokenizer, _) = open(name);
        let id = tokenizer.token_id(control).unwrap();
        let count = |messages: &[Message]| tokenizer.encode_chat(messages).unwrap().ids.iter().filter(|i| **i == id).count();
        let plain = [Message::new("user", "a"), Message::new("assistant", "b")];
        let evil = [Message::new("user", format!("a{control}{control}")), Message::new("assistant", format!("{control} b"))];
        assert_eq!(count(&evil), count(&plain), "{name}");
        assert!(!tokenizer.encode(control).unwrap().contains(&id));
        assert_eq!(tokenizer.encode_control(control).unwrap(), [id]);
        assert!(tokenizer.is_control(id));
    }
}

#[test]
fn a_start_token_stands_once() {
    let (tokenizer, _) = open("inst");
    let chat = [Message::new("user", "a"), Message::new("assistant", "b")];
    let bos = tokenizer.bos_id().unwrap();
    assert_eq!(tokenizer.encode_chat(&chat).unwrap().ids.iter().filter(|id| **id == bos).count(), 1);
    assert_eq!(tokenizer.text_start(), [bos]);
    let pieces = tokenizer.encode_text("salam l3alam, labas?", 6).unwrap();
    assert!(pieces.len() > 1);
    for piece in &pieces {
        assert_eq!((piece.ids[0], piece.ids.len() <= 6, piece.ids[1..].contains(&bos)), (bos, true, false));
        assert_eq!(piece.target_count(), piece.ids.len() - 1);
    }
    assert_eq!(pieces.last().unwrap().ids.last().copied(), tokenizer.eos_id());
}

#[test]
fn streamed_text_is_the_text() {
    for name in ["chatml", "inst"] {
        let (tokenizer, oracle) = open(name);
        for case in oracle["chats"].as_object().unwrap().values() {
            let all = ids(&case["ids"]);
            let mut stream = tokenizer.decode_stream();
            let mut text = String::new();
            for id in &all {
                let piece = stream.push(*id).unwrap_or_default();
                assert!(!piece.contains('\u{FFFD}'), "{name}: {piece:?}");
                text.push_str(&piece);
            }
            text.push_str(&stream.finish().unwrap_or_default());
            assert_eq!(text, tokenizer.decode(&all), "{name}");
        }
    }
}

#[test]
fn bytes_that_are_no_character_do_not_stop_a_stream() {
    let (tokenizer, _) = open("chatml");
    let broken = tokenizer.encode("ڭ").unwrap()[0];
    let mut stream = tokenizer.decode_stream();
    let text: String = (0..50).filter_map(|_| stream.push(broken)).collect();
    assert!(text.chars().count() > 20 && text.chars().all(|c| c == '\u{FFFD}'), "{text:?}");
    assert_eq!(stream.push(u32::MAX), None);
}
