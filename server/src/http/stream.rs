//! From the engine's events to a response: collected into one object, or passed on as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio_stream::Stream;

use super::error::ApiError;
use super::format::{Answer, Envelope, Format, usage};
use super::options::Delivery;
use super::service::now;
use crate::engine::{Event, FinishReason, Piece, Ticket, Usage};

/// A comment is sent after this long without an event, so that nothing between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers with the events of `ticket`.
pub(crate) async fn deliver<F: Format>(
    ticket: Ticket,
    model: String,
    format: F,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let envelope = Envelope { id: ticket.id.clone(), created: now(), model };
    match delivery {
        Delivery::Whole => {
            let answer = collect(ticket).await?;
            let choice = format.whole(answer.piece, answer.reason);
            let mut body = envelope.with(F::OBJECTS.0, vec![choice]);
            body.insert("usage".to_owned(), usage(answer.usage));
            Ok(Json(body).into_response())
        }
        Delivery::Stream { usage } => {
            let chunks = Chunks::new(ticket, envelope, format, usage);
            Ok(Sse::new(chunks).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
        }
    }
}

async fn collect(mut ticket: Ticket) -> Result<Answer, ApiError> {
    let mut piece = Piece { text: String::new(), tokens: Vec::new() };
    while let Some(event) = ticket.events.recv().await {
        match event {
            Event::Piece(next) => {
                piece.text.push_str(&next.text);
                piece.tokens.extend(next.tokens);
            }
            Event::Finished { reason, usage } => return Ok(Answer { piece, reason, usage }),
            Event::Failed { stopping, message } => return Err(failure(stopping, message)),
        }
    }
    Err(failure(false, "the engine has stopped".to_owned()))
}

fn failure(stopping: bool, message: String) -> ApiError {
    let status = if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    ApiError::new(status, message)
}

/// The events of one streamed answer. Dropping it, which happens when the client leaves, cancels the sequence.
struct Chunks<F> {
    ticket: Ticket,
    envelope: Envelope,
    format: F,
    with_usage: bool,
    ready: VecDeque<String>,
    ended: bool,
}

impl<F: Format> Chunks<F> {
    fn new(ticket: Ticket, envelope: Envelope, format: F, with_usage: bool) -> Chunks<F> {
        let mut chunks = Chunks { ticket, envelope, format, with_usage, ready: VecDeque::new(), ended: false };
        if let Some(choice) = chunks.format.opening() {
            chunks.push(vec![choice], None);
        }
        chunks
    }

    fn push(&mut self, choices: Vec<Value>, counted: Option<Usage>) {
        let mut chunk = self.envelope.with(F::OBJECTS.1, choices);
        if self.with_usage {
            chunk.insert("usage".to_owned(), counted.map_or(Value::Null, usage));
        }
        self.ready.push_back(Value::Object(chunk).to_string());
    }

    fn end(&mut self, reason: FinishReason, counted: Usage) {
        let choice = self.format.closing(reason);
        self.push(vec![choice], None);
        if self.with_usage {
            self.push(Vec::new(), Some(counted));
        }
    }

    /// The status is long sent, so the error is an event.
    fn fail(&mut self, stopping: bool, message: String) {
        self.ready.push_back(failure(stopping, message).body().to_string());
    }
}

impl<F: Format> Stream for Chunks<F> {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(sse::Event::default().data(data))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.ticket.events.poll_recv(context)) {
                Some(Event::Piece(piece)) => {
                    let choice = self.format.piece(piece);
                    self.push(vec![choice], None);
                    continue;
                }
                Some(Event::Finished { reason, usage }) => self.end(reason, usage),
                Some(Event::Failed { stopping, message }) => self.fail(stopping, message),
                None => self.fail(false, "the engine has stopped".to_owned()),
            }
            self.ready.push_back("[DONE]".to_owned());
            self.ended = true;
        }
    }
}
