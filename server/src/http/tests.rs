//! The HTTP layer with a model whose answers are known: paths, shapes, frames, limits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, header};
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Service, router};
use crate::engine::testing::{self, Gate, until};
use crate::engine::{Engine, Limits};

/// The HTTP layer, and what a test needs to steer the engine under it.
struct App {
    router: Router,
    engine: Engine,
    gate: Arc<Gate>,
}

impl App {
    fn new(limits: Limits, gate: Arc<Gate>, body_time: Duration) -> App {
        let tokenizer = testing::tokenizer();
        let engine = testing::engine(&tokenizer, limits, &gate).engine;
        let service = Service { body_time, ..Service::for_tests(engine.clone(), tokenizer) };
        App { router: router(Arc::new(service)), engine, gate }
    }

    /// The response to a request, whose body may still be under way.
    async fn begin(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }
}

const LONG: Duration = Duration::from_secs(60);

fn quick() -> Router {
    App::new(Limits { running: 4, waiting: 4 }, Gate::open(), LONG).router
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> (u16, Value) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

async fn complete(app: &Router, body: Value) -> Value {
    let (status, answer) = send(app, post("/v1/completions", &body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The data of the frames of a streamed answer.
async fn frames(app: &Router, path: &str, body: Value) -> Vec<String> {
    let response = app.clone().oneshot(post(path, &body)).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let text = text(response).await;
    text.split_terminator("\n\n").map(|frame| frame.strip_prefix("data: ").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_chat_answer_has_the_shape_of_the_api() {
    let body = json!({"model": "base", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 3});
    let (status, mut answer) = send(&quick(), post("/v1/chat/completions", &body)).await;
    assert_eq!(status, 200);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "abc", "refusal": null}, "logprobs": null,
        "finish_reason": "length"});
    assert_eq!(answer["choices"].take(), json!([choice]));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("base")));
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn the_end_of_the_turn_and_stop_strings_end_an_answer() {
    let app = quick();
    let answer = complete(&app, json!({"model": "base", "prompt": "w", "temperature": 0})).await;
    assert_eq!((&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]), (&json!("xyz"), &json!("stop")));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}));
    let answer = complete(&app, json!({"model": "base", "prompt": "c", "temperature": 0, "stop": ["zz", "fg"]})).await;
    assert_eq!((&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]), (&json!("de"), &json!("stop")));
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn a_prompt_is_scored_by_echo_and_logprobs() {
    let body = json!({"model": "base", "prompt": "abd", "max_tokens": 0, "echo": true, "logprobs": 1});
    let answer = complete(&quick(), body).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(answer["choices"][0]["text"], "abd");
    assert_eq!(logprobs["tokens"], json!(["a", "b", "d"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2]));
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!((logprobs["token_logprobs"][1].as_f64().unwrap() - 0.9f64.ln()).abs() < 1e-5);
    assert!((logprobs["token_logprobs"][2].as_f64().unwrap() - (0.1f64 / 258.0).ln()).abs() < 1e-4);
    let best = logprobs["top_logprobs"][2].as_object().unwrap();
    assert_eq!(best.keys().collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}));
}

#[tokio::test]
async fn chat_logprobs_name_each_token() {
    let body = json!({"model": "base", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 2,
        "logprobs": true, "top_logprobs": 2});
    let (_, answer) = send(&quick(), post("/v1/chat/completions", &body)).await;
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.iter().map(|token| token["token"].as_str().unwrap()).collect::<String>(), "ab");
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(content[1]["bytes"], json!([98]));
}

#[tokio::test]
async fn a_streamed_chat_answer_has_a_role_then_text_then_an_end() {
    let body = json!({"model": "adapter", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 5,
        "stop": ["de"], "stream": true, "stream_options": {"include_usage": true}});
    let frames = frames(&quick(), "/v1/chat/completions", body).await;
    assert_eq!(frames.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> = frames[..frames.len() - 1].iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(5)));
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let pieces: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, ["", "a", "b", "c"]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_streamed_completion_may_echo_the_prompt() {
    let body = json!({"model": "base", "prompt": "xy", "temperature": 0, "echo": true, "logprobs": 0, "stream": true});
    let frames = frames(&quick(), "/v1/completions", body).await;
    let chunks: Vec<Value> = frames[..frames.len() - 1].iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
    let all = |pointer: &str| chunks.iter().filter_map(|chunk| chunk.pointer(pointer).cloned()).collect::<Vec<_>>();
    assert_eq!(all("/choices/0/text"), ["xy", "z", ""]);
    assert_eq!(all("/choices/0/logprobs/text_offset"), [json!([0, 1]), json!([2])]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(chunks[0].get("usage").is_none());
}

#[tokio::test]
async fn a_seed_makes_an_answer_reproducible() {
    let app = quick();
    let ask = async |seed: u64| {
        let body = json!({"model": "base", "prompt": "a", "temperature": 2, "max_tokens": 30, "seed": seed});
        complete(&app, body).await["choices"][0]["text"].clone()
    };
    assert_eq!(ask(1).await, ask(1).await);
    assert_ne!(ask(1).await, ask(2).await);
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let app = quick();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let (status, list) = send(&app, get("/v1/models")).await;
    assert_eq!((status, &list["data"][1]["id"], &list["data"][1]["parent"]), (200, &json!("adapter"), &json!("base")));
    assert_eq!(send(&app, get("/v1/models/adapter")).await.1, list["data"][1]);
    let (status, error) = send(&app, get("/v1/models/other")).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(send(&app, get("/health")).await, (200, json!({"status": "ok"})));
}

#[rstest]
#[case(json!({"model": "other", "prompt": "a"}), 404, "model")]
#[case(json!({"model": "base", "prompt": "a".repeat(64)}), 400, "prompt")]
#[case(json!({"model": "base", "prompt": "a", "max_tokens": 64}), 400, "max_tokens")]
#[case(json!({"model": "base", "prompt": "a", "max_tokens": -3}), 400, "max_tokens")]
#[case(json!({"model": "base", "prompt": ""}), 400, "prompt")]
#[case(json!({"model": "base", "prompt": [259]}), 400, "prompt[0]")]
#[case(json!({"model": "base", "prompt": "a", "n": 2}), 400, "n")]
#[tokio::test]
async fn a_wrong_request_names_its_field(#[case] body: Value, #[case] status: u16, #[case] param: &str) {
    let (found, answer) = send(&quick(), post("/v1/completions", &body)).await;
    let error = &answer["error"];
    assert_eq!((found, error["param"].as_str(), error["type"].as_str()), (status, Some(param), Some("invalid_request_error")));
    assert!(error["message"].as_str().unwrap().contains("found"), "{error}");
}

#[tokio::test]
async fn lengths_up_to_the_context_are_allowed() {
    let app = quick();
    complete(&app, json!({"model": "base", "prompt": "a".repeat(64), "max_tokens": 0, "echo": true})).await;
    complete(&app, json!({"model": "base", "prompt": "a".repeat(60), "max_tokens": 4})).await;
    let chat = json!({"model": "base", "messages": [{"role": "user", "content": "a".repeat(80)}]});
    let (status, answer) = send(&app, post("/v1/chat/completions", &chat)).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("context_length_exceeded")));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("messages: found 99 tokens, expected at most 63: "), "{message}");
}

#[tokio::test]
async fn what_is_not_a_request_is_answered_in_the_same_shape() {
    let app = quick();
    let json_post = |body: &str| {
        let request = Request::post("/v1/completions").header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let plain = Request::post("/v1/completions").body(Body::from("{}")).unwrap();
    let cases = [
        (json_post("{"), 400),
        (json_post("[1]"), 400),
        (json_post(&" ".repeat(2001)), 413),
        (plain, 415),
        (Request::get("/v1/completions").body(Body::empty()).unwrap(), 405),
        (Request::get("/v1/nothing").body(Body::empty()).unwrap(), 404),
        (Request::get("/v1/models/%ff").body(Body::empty()).unwrap(), 400),
    ];
    for (request, expected) in cases {
        let name = format!("{} {}", request.method(), request.uri());
        let (status, answer) = send(&app, request).await;
        assert_eq!(status, expected, "{name}: {answer}");
        let error = answer["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"], "{name}");
    }
}

#[tokio::test]
async fn a_full_queue_is_said_with_429_and_frees_itself_when_clients_leave() {
    let app = App::new(Limits { running: 1, waiting: 1 }, Gate::closed(), LONG);
    let body = json!({"model": "base", "prompt": "a", "max_tokens": 60, "stop": "z", "stream": true});
    let first = app.begin(post("/v1/completions", &body)).await;
    let second = app.begin(post("/v1/completions", &body)).await;
    let full = app.begin(post("/v1/completions", &body)).await;
    assert_eq!((full.status().as_u16(), full.headers()[header::RETRY_AFTER].to_str().unwrap()), (429, "1"));
    drop((first, second));
    app.gate.allow(1);
    until("free places", || app.engine.active() == 0).await;
    let again = app.begin(post("/v1/completions", &body)).await;
    assert_eq!(again.status().as_u16(), 200);
}

/// A request whose body never ends.
fn endless(path: &str) -> Request<Body> {
    let body = Body::from_stream(tokio_stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
    Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

#[tokio::test]
async fn a_place_is_taken_before_the_body_is_read() {
    let app = App::new(Limits { running: 1, waiting: 0 }, Gate::open(), LONG);
    let receiving = tokio::spawn(app.router.clone().oneshot(endless("/v1/completions")));
    until("a taken place", || app.engine.active() == 1).await;
    let full = app.begin(endless("/v1/chat/completions")).await;
    assert_eq!((full.status().as_u16(), full.headers()[header::RETRY_AFTER].to_str().unwrap()), (429, "1"));
    receiving.abort();
    until("a free place", || app.engine.active() == 0).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let app = App::new(Limits { running: 1, waiting: 0 }, Gate::open(), Duration::from_millis(10));
    let (status, answer) = send(&app.router, endless("/v1/completions")).await;
    assert_eq!((status, &answer["error"]["code"]), (408, &json!("request_timeout")));
    assert_eq!(answer["error"]["message"], "request body: not complete after 0.01 seconds");
    assert_eq!(app.engine.active(), 0);
}

#[tokio::test]
async fn requests_take_turns() {
    let app = App::new(Limits { running: 2, waiting: 0 }, Gate::closed(), LONG);
    let slow = json!({"model": "base", "prompt": "-", "temperature": 0, "max_tokens": 26, "stream": true});
    let quick = json!({"model": "adapter", "prompt": "-", "temperature": 0, "max_tokens": 3, "stream": true});
    let slow = app.begin(post("/v1/completions", &slow)).await;
    let quick = app.begin(post("/v1/completions", &quick)).await;
    // Enough steps for the short request and its turns with the long one, not for the long one.
    app.gate.allow(12);
    let quick = tokio::time::timeout(LONG, text(quick)).await.expect("the short request waited for the long one");
    assert!(quick.contains("\"text\":\"c\"") && quick.contains("[DONE]"), "{quick}");
    until("the place of the short request, free again", || app.engine.active() == 1).await;
    app.gate.allow(usize::MAX);
    let slow = text(slow).await;
    assert!(slow.contains("\"text\":\"z\"") && slow.contains("[DONE]"), "{slow}");
}
