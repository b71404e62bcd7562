//! Starting and ending: signals, ports, directories, command lines.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sirocco_tests::material::tiny_model;
use sirocco_tests::program::wait_for;
use tempfile::TempDir;

use crate::server::{LIMIT, Server, serve};

/// A streamed answer of many tokens; no stop token ends it early, since the seed is fixed.
fn long_answer(seed: u64) -> Value {
    json!({"model": "tiny", "prompt": "abc", "max_tokens": 480, "seed": seed, "stream": true})
}

#[test]
fn sigterm_lets_a_stream_finish_and_ends_with_0() {
    let server = Server::start(&[], |_| {});
    let mut streams: Vec<_> = (0..4).map(|seed| server.stream("/v1/completions", &long_answer(seed))).collect();
    for stream in &mut streams {
        stream.next().unwrap();
    }
    server.signal("TERM");
    wait_for("refused connection", LIMIT, || TcpStream::connect(("127.0.0.1", server.port)).is_err().then_some(()));
    for stream in streams {
        let frames: Vec<String> = stream.collect();
        assert_eq!(frames.last().unwrap(), "[DONE]");
        let end: Value = serde_json::from_str(&frames[frames.len() - 2]).unwrap();
        assert!(["stop", "length"].contains(&end["choices"][0]["finish_reason"].as_str().unwrap()), "{end}");
    }
    server.wait().expect_code(0);
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Server::start(&[], |_| {});
    // A request that is not complete is waited for.
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n";
    write!(socket, "{head}content-length: 100\r\n\r\n").unwrap();
    let mut go_on = [0; 12];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    server.signal("TERM");
    wait_for("log of the first signal", LIMIT, || server.log().contains("active=1").then_some(()));
    server.signal("TERM");
    server.wait().expect_code(1).expect_words(&["error: a second signal"]);
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let server = Server::start(&[], |_| {});
    let _idle = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    server.greedy("tiny", "a", 1);
    let start = Instant::now();
    server.signal("TERM");
    server.wait().expect_code(0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_client_that_leaves_cancels_its_sequence() {
    let server = Server::start(&["--max-concurrent", "1"], |_| {});
    let mut stream = server.stream("/v1/completions", &long_answer(1));
    stream.next().unwrap();
    drop(stream);
    wait_for("cancelled sequence", LIMIT, || server.log().contains("cancelled by the client").then_some(()));
}

#[test]
fn logs_have_the_request_but_not_its_text() {
    let server = Server::start(&[], |_| {});
    let secret = "zzsecretzz";
    server.greedy("tiny", secret, 2);
    let body = json!({"model": "tiny", "prompt": secret, "max_tokens": secret});
    server.post("/v1/completions", &body, 400);
    let log = wait_for("log of both", LIMIT, || Some(server.log()).filter(|log| log.contains("status=400")));
    assert!(log.contains("status=200") && log.contains("seconds=") && log.contains("completion_tokens="), "{log}");
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn with_json_the_events_are_json() {
    let dir = TempDir::new().unwrap();
    tiny_model(&dir.path().join("tiny"));
    let running = serve(dir.path(), &["tiny", "--name", "mine", "--listen", "localhost:0", "--json"]);
    let line = wait_for("event", LIMIT, || running.stdout().lines().next().map(str::to_owned));
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["event"], &event["models"]), (&json!("listening"), &json!(["mine"])));
    assert!(event["address"].as_str().unwrap().starts_with("http://"), "{event}");
}

#[test]
fn a_port_in_use_is_said_before_loading() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    let ended = serve(dir.path(), &["absent", "--listen", &address, "--json"]).wait(LIMIT).expect_code(5);
    let ended = ended.expect_words(&["error: --listen", &address, "help:", "--listen"]);
    let error: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&json!("machine"), &json!(5)));
}

#[test]
fn what_is_wrong_on_the_command_line_or_in_a_directory_has_its_exit_code() {
    let dir = TempDir::new().unwrap();
    tiny_model(&dir.path().join("tiny"));
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&[], 2, &["error:", "MODEL"]),
        (&["tiny", "--dtype", "int3"], 2, &["--dtype", "bf16"]),
        (&["tiny", "--adapter", "x"], 2, &["NAME=DIR"]),
        (&["tiny", "--listen", "nowhere"], 2, &["--listen", "HOST:PORT"]),
        (&["tiny", "--listen", "127.0.0.1:0", "--name", "a", "--adapter", "a=b"], 2, &["\"a\" twice", "--name"]),
        (&["absent", "--listen", "127.0.0.1:0"], 4, &["error:", "absent"]),
        (&["tiny", "--listen", "127.0.0.1:0", "--adapter", "a=absent"], 4, &["error:", "absent"]),
        (&[".", "--listen", "127.0.0.1:0", "--name", "x"], 4, &["config.json"]),
    ];
    for (args, code, words) in cases {
        serve(dir.path(), args).wait(LIMIT).expect_code(code).expect_words(words);
    }
    let truncated = dir.path().join("tiny/model.safetensors");
    let bytes = std::fs::read(&truncated).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() - 7]).unwrap();
    serve(dir.path(), &["tiny", "--listen", "127.0.0.1:0"]).wait(LIMIT).expect_code(4).expect_words(&["model.safetensors"]);
}

#[test]
fn help_has_an_example() {
    let dir = TempDir::new().unwrap();
    let help = serve(dir.path(), &["--help"]).wait(LIMIT).expect_code(0).stdout;
    assert!(help.contains("Usage: sirocco serve") && help.contains("--adapter darija="), "{help}");
}
