//! The terminal: taken over, drawn on, and given back however the watch ends.
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use sirocco_config::environment::{NO_COLOUR, TERMINAL};

use crate::failure::{Failure, Kind};
use crate::output;
use crate::watch::lines::summary;
use crate::watch::look::Look;
use crate::watch::shown::Shown;
use crate::watch::state::State;
use crate::watch::view::draw;
use crate::watch::{PAUSE, Stop};

/// How long a key or a signal may wait for an answer.
const BEAT: Duration = Duration::from_millis(100);

/// A terminal that is ours until this value is dropped. A panic gives it back, too: ratatui sees to that.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

/// What is drawn: a run, or several, at one moment.
pub(crate) trait Scene: Send + 'static {
    /// Whether nothing more happens by itself.
    fn is_over(&self) -> bool;

    fn draw(&self, frame: &mut Frame<'_>, look: Look);

    /// The line that is left when the view has ended.
    fn summary(&self) -> String;
}

impl Scene for Shown {
    fn is_over(&self) -> bool {
        self.state.is_some_and(State::is_over)
    }

    fn draw(&self, frame: &mut Frame<'_>, look: Look) {
        draw(frame, self, look);
    }

    fn summary(&self) -> String {
        summary(self)
    }
}

/// What a person wants by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Leave,
    See(Look),
}

impl Screen {
    /// Whether there is a terminal whose cursor can be moved.
    pub(crate) fn is_possible() -> bool {
        let kind = std::env::var_os(TERMINAL.name).unwrap_or_default();
        io::stdout().is_terminal() && !kind.is_empty() && kind != "dumb"
    }

    pub(crate) fn open() -> io::Result<Screen> {
        // What was changed before a failure is put back, too.
        ratatui::try_init().map(|terminal| Screen { terminal }).inspect_err(|_| drop(ratatui::try_restore()))
    }

    /// Draws until the person leaves. With `until_end`, until the run has ended, which is then told in a line.
    pub(crate) fn run<T: Scene>(
        mut self,
        look: impl FnMut() -> T + Send + 'static,
        stop: &Stop,
        until_end: bool,
    ) -> Result<(), Failure> {
        let end = self.draw_until_end(&read_beside(look), stop, until_end);
        drop(self);
        end?.map_or(Ok(()), |shown| output::line(shown.summary()))
    }

    /// Returns the run that has ended; none where the person has left.
    fn draw_until_end<T: Scene>(&mut self, looks: &Receiver<T>, stop: &Stop, until_end: bool) -> Result<Option<T>, Failure> {
        let colour = std::env::var_os(NO_COLOUR.name).is_none_or(|value| value.is_empty());
        let mut look = Look { colour, ..Look::default() };
        let mut shown: Option<T> = None;
        // Looks in a row that found the run at its end: what was written just before it is seen by the second.
        let mut ends = 0;
        while !stop.is_asked() {
            match looks.try_recv() {
                Ok(new) => {
                    ends = if new.is_over() { ends + 1 } else { 0 };
                    shown = Some(new);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return Err(Failure::new(Kind::Failed, "the run directory is not read any more"));
                }
            }
            if until_end && ends > 1 {
                return Ok(shown);
            }
            if let Some(shown) = &shown {
                self.terminal.draw(|frame| shown.draw(frame, look)).map_err(|error| lost(&error))?;
            }
            match wish(look).map_err(|error| lost(&error))? {
                Wish::Leave => break,
                Wish::See(other) => look = other,
            }
        }
        Ok(None)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Kind::Failed, format_args!("the terminal: {error}")).help("sirocco watch RUN_DIR | cat writes plain lines")
}

/// Reads in a thread of its own: a file system that hangs must not hold up the key that leaves.
fn read_beside<T: Scene>(mut look: impl FnMut() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        loop {
            if !io::stdout().is_terminal() {
                // The terminal has hung up. Who waits for a key of it turns in circles inside crossterm for ever, and hears of no signal.
                std::process::exit(0);
            }
            if sender.send(look()).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    });
    receiver
}

/// Waits for a key for [`BEAT`].
fn wish(look: Look) -> io::Result<Wish> {
    let is_there = match event::poll(BEAT) {
        // A signal, which the caller looks for.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
        there => there?,
    };
    if !is_there {
        return Ok(Wish::See(look));
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => pressed(key, look),
        _ => Wish::See(look),
    })
}

fn pressed(key: KeyEvent, look: Look) -> Wish {
    let page = |page| Wish::See(Look { page, help: false, scrolled: 0, ..look });
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
        KeyCode::Char('q' | 'Q') => Wish::Leave,
        KeyCode::Esc if look.help => Wish::See(Look { help: false, ..look }),
        KeyCode::Esc => Wish::Leave,
        KeyCode::Char('?' | 'h') => Wish::See(Look { help: !look.help, ..look }),
        KeyCode::Tab | KeyCode::Right => page(look.page.moved(1)),
        KeyCode::BackTab | KeyCode::Left => page(look.page.before()),
        KeyCode::Down => Wish::See(Look { scrolled: look.scrolled.saturating_add(1), ..look }),
        KeyCode::Up => Wish::See(Look { scrolled: look.scrolled.saturating_sub(1), ..look }),
        _ => Wish::See(look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::look::Page;

    #[test]
    fn keys_do_what_the_help_says() {
        let look = Look::default();
        let press = |code, look| pressed(KeyEvent::from(code), look);
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(code, look), Wish::Leave);
        }
        assert_eq!(pressed(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), look), Wish::Leave);
        assert_eq!(press(KeyCode::Char('c'), look), Wish::See(look));
        assert_eq!(press(KeyCode::Tab, look), Wish::See(Look { page: Page::Curve, ..look }));
        assert_eq!(press(KeyCode::Left, look), Wish::See(Look { page: Page::Warnings, ..look }));
        let helped = Look { help: true, ..look };
        assert_eq!((press(KeyCode::Char('?'), look), press(KeyCode::Esc, helped)), (Wish::See(helped), Wish::See(look)));
        let down = Look { scrolled: 1, ..look };
        assert_eq!(
            (press(KeyCode::Down, look), press(KeyCode::Up, down), press(KeyCode::Up, look)),
            (Wish::See(down), Wish::See(look), Wish::See(look))
        );
    }
}
