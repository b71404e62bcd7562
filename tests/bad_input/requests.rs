//! Bad requests get status 400 in the shape of OpenAI's errors, and the server lives on; a port in use is said at the start.

use std::net::TcpListener;

use crate::{place, refused};
use serde_json::{Value, json};
use sirocco_tests::http::request;
use sirocco_tests::program::{LIMIT, Running, command, run, signal, wait_for};

/// Starts `sirocco serve model` and gives its port.
fn serve(place: &tempfile::TempDir) -> (Running, u16) {
    let running = Running::start(&mut command("sirocco", &["serve", "model", "--listen", "127.0.0.1:0"], place.path()));
    let port =
        wait_for("address of the server", LIMIT, || running.stdout().lines().next()?.trim().rsplit_once(':')?.1.parse().ok());
    (running, port)
}

/// Posts `body` and asserts a 400 in OpenAI's shape whose message holds `words`.
#[track_caller]
fn bad_request(port: u16, path: &str, body: &str, words: &[&str]) {
    let answer = request(port, "POST", path, Some(body)).expect("an answer");
    assert_eq!(answer.status, 400, "{body}: {}", answer.body);
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{error}");
    assert!(error.get("param").is_some() && error.get("code").is_some(), "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

fn chat(more: &Value) -> String {
    let mut body = json!({"model": "model", "messages": [{"role": "user", "content": "1 plus 1"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body.to_string()
}

#[test]
fn bad_requests_are_answered_and_good_ones_after_them() {
    let place = place();
    let (server, port) = serve(&place);
    let completions = "/v1/chat/completions";
    bad_request(port, completions, "{\"model\": ", &["JSON"]);
    bad_request(port, completions, &chat(&json!({"temperature": "warm"})), &["temperature"]);
    bad_request(port, completions, &chat(&json!({"messages": "hello"})), &["messages"]);
    bad_request(port, completions, &chat(&json!({"max_tokens": -1})), &["max_tokens", "-1"]);
    bad_request(port, completions, &chat(&json!({"messages": [{"role": "user", "content": "long ".repeat(200)}]})), &["512"]);
    bad_request(port, "/v1/completions", &json!({"model": "model", "prompt": "long ".repeat(200)}).to_string(), &["512"]);
    let good = request(port, "POST", completions, Some(&chat(&json!({"max_tokens": 3, "temperature": 0})))).expect("an answer");
    assert_eq!(good.status, 200, "{}", good.body);
    assert_eq!(good.json()["usage"]["completion_tokens"].as_u64().map(|tokens| tokens <= 3), Some(true), "{}", good.body);
    signal("TERM", &server.id().to_string());
    server.wait(LIMIT).expect_code(0);
}

#[test]
fn a_port_in_use() {
    let place = place();
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    refused(run("sirocco", &["serve", "model", "--listen", &address], place.path()), 5, &[&address, "in use"]);
}
