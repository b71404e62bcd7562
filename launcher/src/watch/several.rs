//! `sirocco watch` of a directory of runs, as a sweep leaves one: a table of them, or a line for what is new of each.
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph};
use serde::Serialize;

use crate::chain::history::current;
use crate::failure::Failure;
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::several::Member;
use crate::watch::lines::{self, whole};
use crate::watch::look::Look;
use crate::watch::screen::Scene;
use crate::watch::shown::Shown;
use crate::watch::source::Source;
use crate::watch::state::State;
use crate::watch::table::{Row, counted, table};
use crate::watch::words::one_line;
use crate::watch::{PAUSE, Stop, now};

/// Between two lines about the steps of one run, unless another length is asked for: they are many.
const EVERY: Duration = Duration::from_secs(60);

/// The runs, and what was said of them.
pub(crate) struct Runs {
    directory: String,
    followed: Vec<Followed>,
}

struct Followed {
    member: Member,
    source: Source,
    /// Of the newest line.
    state: Option<State>,
    step: u64,
    said: Option<Instant>,
}

/// All of them at one moment.
pub(crate) struct Moment {
    directory: String,
    runs: Vec<(Member, Shown)>,
}

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Object<'a> {
    run_dir: &'a str,
    #[serde(flatten)]
    line: lines::Line<'a>,
}

impl Runs {
    pub(crate) fn open(directory: &Path, members: &[Member]) -> Result<Runs, Failure> {
        let follow = |member: &Member| {
            let source = Source::new(RunDirectory::existing(&member.path)?);
            Ok(Followed { member: member.clone(), source, state: None, step: 0, said: None })
        };
        let followed = members.iter().map(follow).collect::<Result<_, Failure>>()?;
        Ok(Runs { directory: one_line(&directory.display().to_string()), followed })
    }

    /// As they are now; `now` in seconds since 1970.
    pub(crate) fn look(&mut self, now: f64) -> Moment {
        let look = |run: &mut Followed| {
            run.source.poll();
            (run.member.clone(), run.source.shown(now))
        };
        Moment { directory: self.directory.clone(), runs: self.followed.iter_mut().map(look).collect() }
    }

    /// Writes lines until every run has ended, or somebody asks to stop.
    pub(crate) fn run(&mut self, every: Option<Duration>, as_json: bool, stop: &Stop) -> Result<(), Failure> {
        let mut quiet = false;
        while !stop.is_asked() {
            let moment = self.look(now());
            let mut is_news = false;
            for (run, (_, shown)) in self.followed.iter_mut().zip(&moment.runs) {
                if run.is_due(shown, every.unwrap_or(EVERY)) {
                    is_news = true;
                    say(&run.member, shown, as_json)?;
                }
            }
            // A second look: what was written before the end may have come between.
            if moment.is_over() && quiet && !is_news {
                return if as_json { Ok(()) } else { output::line(moment.summary()) };
            }
            quiet = moment.is_over();
            output::sleep_while_read(PAUSE)?;
        }
        Ok(())
    }
}

impl Followed {
    /// Whether there is something to say: another state at once, another step after a while.
    fn is_due(&mut self, shown: &Shown, every: Duration) -> bool {
        let waited = self.said.is_none_or(|said| said.elapsed() >= every);
        let is_over = shown.state.is_some_and(State::is_over);
        let is_due = shown.state != self.state || (shown.step != self.step && (waited || is_over));
        if is_due {
            (self.state, self.step, self.said) = (shown.state, shown.step, Some(Instant::now()));
        }
        is_due
    }
}

fn say(member: &Member, shown: &Shown, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(&Object { run_dir: &shown.directory, line: whole(shown) });
    }
    let more = [shown.run_left.filter(|_| shown.is_going()).map(|left| format!(", {} left", output::duration(left)))];
    let more: String = more.into_iter().flatten().collect();
    let settings = if member.settings.is_empty() { String::new() } else { format!("  ({})", one_line(&member.settings)) };
    output::line(format_args!("{}{more}{settings}", lines::summary(shown)))
}

fn row((member, shown): &(Member, Shown)) -> Row {
    Row {
        label: one_line(&member.label),
        state: shown.state_word().to_owned(),
        step: shown.step,
        steps: shown.steps,
        loss: shown.loss,
        held_out: shown.valid_loss.map(|(_, loss)| loss),
        left: shown.run_left.filter(|_| shown.is_going() && shown.step > 0),
        job: current(&shown.jobs).map(|job| one_line(&job.job)),
        settings: one_line(&member.settings),
    }
}

impl Moment {
    /// `runs/sweep  4 runs: 1 running, 3 done`
    fn words(&self) -> String {
        let states: Vec<&str> = self.runs.iter().map(|(_, shown)| shown.state_word()).collect();
        counted(&states)
    }
}

impl Scene for Moment {
    fn is_over(&self) -> bool {
        self.runs.iter().all(|(_, shown)| shown.state.is_some_and(State::is_over))
    }

    fn draw(&self, frame: &mut Frame<'_>, look: Look) {
        let area = frame.area();
        let footer = u16::from(area.height >= 6);
        let parts = Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(footer)]);
        let [title, middle, bottom] = parts.areas(area);
        frame.render_widget(Line::from(format!("{}  {}", self.directory, self.words())), title);
        frame.render_widget(Line::from("q quit  ? help  up, down scroll"), bottom);
        if look.help {
            frame.render_widget(help(), middle);
        } else {
            self.draw_table(frame, middle, look);
        }
    }

    fn summary(&self) -> String {
        format!("{}: {}", self.directory, self.words())
    }
}

impl Moment {
    fn draw_table(&self, frame: &mut Frame<'_>, area: Rect, look: Look) {
        let mut lines = table(&self.runs.iter().map(row).collect::<Vec<_>>()).into_iter();
        let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(Line::from(lines.next().unwrap_or_default()), head);
        let colour = |shown: &Shown| match shown.state {
            Some(State::Running | State::Done) => Color::Green,
            Some(State::Failed | State::Cancelled) | None => Color::Red,
            Some(_) => Color::Yellow,
        };
        let lines: Vec<Line<'_>> =
            lines.zip(&self.runs).map(|(line, (_, shown))| Line::styled(line, look.colour(colour(shown)))).collect();
        frame.render_widget(Paragraph::new(lines).scroll((look.scrolled, 0)), body);
    }
}

fn help() -> Paragraph<'static> {
    Paragraph::new(
        "q, Esc, Ctrl-C   quit; the runs go on\n\
         up, down         scroll\n\
         ?                this help\n\
         \n\
         sirocco watch with the directory of one run shows its curve, jobs and warnings.",
    )
    .block(Block::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn moment() -> Moment {
        let dir = tempfile::tempdir().unwrap();
        let member = |number: u64| {
            let path = dir.path().join(format!("{number:04}"));
            std::fs::create_dir_all(path.join("logs")).unwrap();
            let text = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 60\n";
            std::fs::write(path.join("run.toml"), text).unwrap();
            let steps = format!(
                "{{\"step\":{number},\"loss\":2.5,\"tokens\":20,\"seconds\":2.0,\"tokens_per_s\":10.0}}\n{{\"step\":{number},\"valid_loss\":2.25}}\n"
            );
            if number > 0 {
                std::fs::write(path.join("metrics.jsonl"), steps).unwrap();
            }
            Member { path, label: format!("{number:04}"), settings: format!("learning_rate={number}e-4") }
        };
        let members: Vec<Member> = (0..3).map(member).collect();
        Runs::open(Path::new("runs/sweep"), &members).unwrap().look(0.0)
    }

    fn drawn(moment: &Moment, look: Look, (width, height): (u16, u16)) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| moment.draw(frame, look)).unwrap();
        terminal.backend().clone()
    }

    #[test]
    fn a_sweep_is_a_table_on_every_screen() {
        let moment = moment();
        assert_eq!(moment.summary(), "runs/sweep: 3 runs: 1 ready, 2 stopped");
        insta::assert_snapshot!("runs-80x24", drawn(&moment, Look::default(), (80, 24)));
        for size in [(1, 1), (10, 3), (40, 6), (300, 100)] {
            for help in [false, true] {
                drawn(&moment, Look { help, colour: true, scrolled: 70, ..Look::default() }, size);
            }
        }
    }
}
