//! Answers: numbers against the oracle, adapters, seeds, stop strings, streams, errors.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rstest::rstest;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};
use sirocco_tests::repository::root;

use crate::server::Server;

fn oracle(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/oracle/tiny-mistral").join(name)).unwrap()
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let bytes = tensors.tensor(name).unwrap().data().as_chunks::<8>().0.to_vec();
    bytes.into_iter().map(i64::from_le_bytes).collect()
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = tensors.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    bytes.into_iter().map(f32::from_le_bytes).collect()
}

/// Natural logarithm of the probability of `id` under `logits`.
fn logprob(logits: &[f32], id: i64) -> f64 {
    let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    f64::from(logits[id as usize]) - total.ln()
}

#[test]
fn scores_of_a_prompt_are_those_of_transformers() {
    let server = Server::start(&[], |_| {});
    let bytes = oracle("forward.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (ids, offsets, logits) = (integers(&tensors, "ids"), integers(&tensors, "offsets"), floats(&tensors, "logits"));
    let vocabulary = logits.len() / ids.len();
    for document in offsets.windows(2).map(|pair| pair[0] as usize..pair[1] as usize) {
        let prompt = &ids[document.clone()];
        let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 2});
        let answer = server.post("/v1/completions", &body, 200);
        let scores = answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
        assert_eq!((scores.len(), &scores[0]), (prompt.len(), &Value::Null));
        for (position, score) in scores.iter().enumerate().skip(1) {
            let row = (document.start + position - 1) * vocabulary;
            let expected = logprob(&logits[row..row + vocabulary], prompt[position]);
            let found = score.as_f64().unwrap();
            assert!((found - expected).abs() < 1e-4, "position {position}: found {found}, expected {expected}");
        }
    }
}

#[test]
fn a_prompt_of_several_chunks_is_scored_as_in_one() {
    // Generation by single tokens and by a prompt of more than one chunk must agree.
    let server = Server::start(&[], |_| {});
    let prompt = "abcdefgh ".repeat(40);
    let score = |text: &str| {
        let body = json!({"model": "tiny", "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 0});
        server.post("/v1/completions", &body, 200)["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    let (whole, part) = (score(&prompt), score(&prompt[..200]));
    for position in 1..200 {
        let (a, b) = (whole[position].as_f64().unwrap(), part[position].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{position}: {a} {b}");
    }
    let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 0});
    let answer = server.post("/v1/completions", &body, 200);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 360, "completion_tokens": 8, "total_tokens": 368}));
}

/// Writes the oracle's adapter, `initial` or `final`, in PEFT's layout.
pub(crate) fn write_adapter(dir: &Path, which: &str) {
    let bytes = oracle("lora.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let chosen: HashMap<String, TensorView<'_>> = tensors
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| Some((name.strip_prefix(&format!("{which}."))?.to_owned(), view)))
        .collect();
    fs::create_dir(dir).unwrap();
    serialize_to_file(&chosen, None, &dir.join("adapter_model.safetensors")).unwrap();
    let config = json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "base_model_name_or_path": "tiny", "use_rslora": false, "fan_in_fan_out": false});
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
}

#[test]
fn the_request_chooses_the_adapter() {
    let server = Server::start(&["--adapter", "fresh=fresh", "--adapter", "trained=trained"], |dir| {
        write_adapter(&dir.join("fresh"), "initial");
        write_adapter(&dir.join("trained"), "final");
    });
    let models = server.raw("GET", "/v1/models", "").json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "fresh", "trained"]);
    let score = |model: &str| {
        let body = json!({"model": model, "prompt": "some text", "max_tokens": 0, "echo": true, "logprobs": 0});
        server.post("/v1/completions", &body, 200)["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    assert_eq!(score("tiny"), score("fresh"), "an adapter whose B is zero changes nothing");
    assert_ne!(score("tiny"), score("trained"));
    // The base's weights are shared, so an answer of the adapter must leave no trace on the base.
    assert_eq!(score("tiny"), score("fresh"));
}

#[test]
fn seeds_and_stop_strings() {
    let server = Server::start(&[], |_| {});
    let ask = |extra: Value| {
        let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 24});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body, 200)["choices"][0].clone()
    };
    let seeded = |seed: u64| ask(json!({"seed": seed, "temperature": 1.2, "top_p": 0.95}))["message"]["content"].clone();
    assert_eq!(seeded(5), seeded(5));
    assert_ne!(seeded(5), seeded(6));
    let text = server.greedy("tiny", "abc", 40);
    let ascii: Vec<char> = text.chars().filter(|c| *c != char::REPLACEMENT_CHARACTER).collect();
    let stop = ascii[ascii.len() / 2].to_string();
    let body = json!({"model": "tiny", "prompt": "abc", "temperature": 0, "max_tokens": 40, "stop": [stop]});
    let choice = server.post("/v1/completions", &body, 200)["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["text"].as_str().unwrap(), text.split(&stop).next().unwrap());
}

#[rstest]
#[case("/v1/completions", json!({"prompt": "abc"}), "/choices/0/text")]
#[case("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "abc"}]}), "/choices/0/delta/content")]
fn a_stream_has_the_text_of_the_whole_answer(#[case] path: &str, #[case] prompt: Value, #[case] place: &str) {
    let server = Server::start(&[], |_| {});
    let mut body = json!({"model": "tiny", "temperature": 0, "max_tokens": 30});
    body.as_object_mut().unwrap().extend(prompt.as_object().unwrap().clone());
    let whole = server.post(path, &body, 200);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let frames: Vec<String> = server.stream(path, &body).collect();
    let (done, chunks) = frames.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let text: String = chunks.iter().filter_map(|chunk| chunk.pointer(place)?.as_str()).collect();
    let expected = whole.pointer("/choices/0/text").or(whole.pointer("/choices/0/message/content")).unwrap();
    assert_eq!(&text, expected);
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
    let reasons: Vec<_> = chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/finish_reason")?.as_str()).collect();
    assert_eq!(reasons, [whole["choices"][0]["finish_reason"].as_str().unwrap()]);
}

#[test]
fn requests_at_once_are_answered_as_alone() {
    let server = Server::start(&[], |_| {});
    let prompts = ["one", "two and more", "three", "four"];
    let alone: Vec<String> = prompts.iter().map(|prompt| server.greedy("tiny", prompt, 60)).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = prompts.iter().map(|prompt| scope.spawn(|| server.greedy("tiny", prompt, 60))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn bad_requests_get_openais_error_shape_and_never_a_500() {
    let server = Server::start(&["--max-body", "20000"], |_| {});
    let chat = |field: &str, value: Value| {
        let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "a"}]});
        body[field] = value;
        body.to_string()
    };
    let long = json!([{"role": "user", "content": "a".repeat(1000)}]);
    let cases = [
        ("POST", chat("max_tokens", json!(-1)), 400, Some("max_tokens")),
        ("POST", chat("temperature", json!("NaN")), 400, Some("temperature")),
        ("POST", chat("messages", json!("hello")), 400, Some("messages")),
        ("POST", chat("messages", long), 400, Some("messages")),
        ("POST", chat("n", json!(2_147_483_648u64)), 400, Some("n")),
        ("POST", chat("stop", json!(vec!["x"; 1000])), 400, Some("stop")),
        ("POST", chat("made_up", json!(1)), 400, Some("made_up")),
        ("POST", chat("model", json!("unknown")), 404, Some("model")),
        ("POST", "{\"model\": NaN}".to_owned(), 400, None),
        ("POST", "[".repeat(10_000), 400, None),
        ("POST", "{\"model\": \"\\ud800\"}".to_owned(), 400, None),
        ("POST", " ".repeat(20_001), 413, None),
        ("PUT", String::new(), 405, None),
    ];
    for (method, body, status, param) in cases {
        let answer = server.raw(method, "/v1/chat/completions", &body);
        let shown: String = body.chars().take(120).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        let error = answer.json()["error"].clone();
        assert_eq!(error.as_object().unwrap().len(), 4, "{error}");
        assert_eq!((error["param"].as_str(), error["type"].as_str()), (param, Some("invalid_request_error")), "{shown}");
    }
    assert_eq!(server.raw("GET", "/v2", "").status, 404);
    assert_eq!(server.raw("GET", "/health", "").status, 200);
}
