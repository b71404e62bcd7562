//! Draws one moment of a run on a screen of any size. Nothing is read here, and no colour says what words do not.
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Wrap};

use crate::output::duration;
use crate::watch::look::{Look, Page};
use crate::watch::panels;
use crate::watch::shown::Shown;
use crate::watch::state::State;

/// Below this there is one column, of numbers.
const ROOMY: (u16, u16) = (70, 18);

/// The width of the numbers beside the curve.
const NUMBERS: u16 = 40;

/// One frame.
pub(crate) fn draw(frame: &mut Frame<'_>, shown: &Shown, look: Look) {
    let area = frame.area();
    let footer = u16::from(area.height >= 6);
    let parts = Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(footer)]);
    let [title, bar, middle, bottom] = parts.areas(area);
    frame.render_widget(title_line(shown, look, area.width), title);
    frame.render_widget(progress_line(shown, bar.width), bar);
    frame.render_widget(footer_line(shown, look, area.width), bottom);
    if look.help {
        frame.render_widget(help(), middle);
        return;
    }
    match look.page {
        Page::Overview if area.width >= ROOMY.0 && area.height >= ROOMY.1 => overview(frame, middle, shown, look),
        Page::Overview => frame.render_widget(panels::numbers(shown), middle),
        Page::Curve => panels::curve(frame, middle, shown, look),
        Page::Jobs => {
            frame.render_widget(panels::jobs(shown, usize::MAX).wrap(Wrap { trim: false }).scroll((look.scrolled, 0)), middle);
        }
        Page::Warnings => {
            frame.render_widget(
                panels::warnings(shown, usize::MAX, look).wrap(Wrap { trim: false }).scroll((look.scrolled, 0)),
                middle,
            );
        }
    }
}

/// Curve and numbers side by side; below them the newest jobs and warnings, if there are any.
fn overview(frame: &mut Frame<'_>, area: Rect, shown: &Shown, look: Look) {
    let room = usize::from(area.height / 5);
    let framed = |lines: usize| if lines == 0 { 0 } else { lines.min(room) as u16 + 2 };
    let (jobs, warnings) = (framed(shown.jobs.len()), framed(shown.warnings.len()));
    let [top, chain, said] =
        Layout::vertical([Constraint::Min(5), Constraint::Length(jobs), Constraint::Length(warnings)]).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Min(20), Constraint::Length(NUMBERS)]).areas(top);
    panels::curve(frame, left, shown, look);
    frame.render_widget(panels::numbers(shown).block(Block::bordered().title(" now ")), right);
    if jobs > 0 {
        frame.render_widget(panels::jobs(shown, room).block(Block::bordered().title(" jobs: state, steps, nodes ")), chain);
    }
    if warnings > 0 {
        frame.render_widget(panels::warnings(shown, room, look).block(Block::bordered().title(" warnings ")), said);
    }
}

/// `demo  running  step 12 of 60`, and at the right how old that is.
fn title_line(shown: &Shown, look: Look, width: u16) -> Line<'static> {
    let colour = match shown.state {
        Some(State::Running | State::Done) => Color::Green,
        Some(State::Failed | State::Cancelled) | None => Color::Red,
        Some(_) => Color::Yellow,
    };
    let name = if shown.name.is_empty() { shown.directory.clone() } else { shown.name.clone() };
    let left = [name, "  ".to_owned(), shown.state_word().to_owned(), format!("  {}", shown.step_words())];
    let used: usize = left.iter().map(|part| part.chars().count()).sum();
    let age =
        shown.silent.filter(|_| shown.step > 0).map_or_else(String::new, |age| format!("newest line {} ago", duration(age)));
    let gap = usize::from(width).saturating_sub(used + age.chars().count());
    let [name, space, state, step] = left;
    let mut spans =
        vec![Span::styled(name, look.bold()), Span::raw(space), Span::styled(state, look.colour(colour)), Span::raw(step)];
    // What does not fit beside the rest is left out whole.
    if gap >= 2 {
        spans.push(Span::raw(" ".repeat(gap) + &age));
    }
    Line::from(spans)
}

/// `[######------] 20 %  1:36 min left`
fn progress_line(shown: &Shown, width: u16) -> Line<'static> {
    let Some(done) = shown.progress() else { return Line::default() };
    let is_going = shown.is_going();
    let left = shown
        .run_left
        .filter(|left| is_going && *left > 0.0)
        .map_or_else(String::new, |left| format!("  {} left", duration(left)));
    let words = format!(" {:3.0} %{left}", (100.0 * done).floor());
    let room = usize::from(width).saturating_sub(words.chars().count() + 2);
    let full = ((room as f64 * done) as usize).min(room);
    Line::from(format!("[{}{}]{words}", "#".repeat(full), "-".repeat(room - full)))
}

/// The keys and the pages, with how much stands on those that cannot be seen; what does not fit is left out whole.
fn footer_line(shown: &Shown, look: Look, width: u16) -> Line<'static> {
    let title = |page: Page| match page {
        Page::Warnings if !shown.warnings.is_empty() => format!("warnings {}", shown.warnings.len()),
        page => page.title().to_owned(),
    };
    let marked = |page: Page| if page == look.page { format!("[{}]", title(page)) } else { format!(" {} ", title(page)) };
    let short = format!("q quit  ? help  tab [{}]", title(look.page));
    let warned = format!("{short} {}", title(Page::Warnings));
    let all = format!("q quit  ? help  tab {}", Page::ALL.map(marked).concat());
    let fits = |line: &String| line.chars().count() <= usize::from(width);
    Line::from([all, warned].into_iter().find(fits).unwrap_or(short))
}

fn help() -> Paragraph<'static> {
    Paragraph::new(
        "q, Esc, Ctrl-C   quit; the run goes on\n\
         Tab, arrows      the next page, the one before\n\
         up, down         scroll jobs and warnings\n\
         ?                this help\n\
         \n\
         Loss is a line, held-out loss is o.\n\
         Times left are as fast as the newest steps and evaluation.\n\
         The slowest rank is one that takes over 1.5 times the median of the others.\n\
         Only files of the run directory are read.",
    )
    .wrap(Wrap { trim: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::{jobs, tests::two_jobs};
    use crate::train::metrics::SlowRank;
    use crate::watch::shown::{Coming, Memory};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn shown() -> Shown {
        let losses: Vec<(f64, f64)> = (1..=32).map(|step| (f64::from(step), 4.0 + 4.0 / f64::from(step))).collect();
        Shown {
            directory: "runs/demo".to_owned(),
            name: "demo".to_owned(),
            state: Some(State::Running),
            step: 32,
            steps: Some(60),
            loss: Some(4.125),
            losses,
            held_out: vec![(0.0, 7.8), (20.0, 4.5)],
            valid_loss: Some((20, 4.5)),
            learning_rate: Some(1.62e-4),
            grad_norm: Some(1.048),
            tokens_per_s: Some(983.4),
            share_of_peak: None,
            memory: Some(Memory { bytes: 1_681_285_120, rank: Some(3) }),
            checkpoint: Some(20),
            next_checkpoint: Some(Coming { step: 40, seconds: 15.6 }),
            run_left: Some(54.6),
            job_left: Some(3723.0),
            slowest: Some(SlowRank { rank: 3, seconds: 3.6, median_seconds: 2.0 }),
            skipped_steps: 1,
            last_end: None,
            silent: Some(2.0),
            warnings: vec![
                "step 9 was skipped: its loss or its gradients were not finite".to_owned(),
                "rank 3 is slow: step 32 took it 3.60 s of computing, half of the others 2.00 s or less".to_owned(),
            ],
            jobs: jobs(two_jobs()),
        }
    }

    fn nothing() -> Shown {
        Shown {
            name: String::new(),
            state: None,
            step: 0,
            steps: None,
            losses: Vec::new(),
            held_out: Vec::new(),
            valid_loss: None,
            warnings: Vec::new(),
            jobs: Vec::new(),
            loss: None,
            learning_rate: None,
            grad_norm: None,
            tokens_per_s: None,
            memory: None,
            checkpoint: None,
            next_checkpoint: None,
            run_left: None,
            job_left: None,
            slowest: None,
            skipped_steps: 0,
            silent: None,
            ..shown()
        }
    }

    fn drawn(shown: &Shown, look: Look, (width, height): (u16, u16)) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, shown, look)).unwrap();
        terminal.backend().clone()
    }

    #[test]
    fn the_screens_of_ssh_and_larger_and_smaller_ones() {
        for size in [(80, 24), (120, 40), (40, 10)] {
            insta::assert_snapshot!(format!("overview-{}x{}", size.0, size.1), drawn(&shown(), Look::default(), size));
        }
        let mut plain = shown();
        (plain.jobs, plain.warnings) = (Vec::new(), Vec::new());
        insta::assert_snapshot!("here-80x24", drawn(&plain, Look::default(), (80, 24)));
        insta::assert_snapshot!("nothing-80x24", drawn(&nothing(), Look::default(), (80, 24)));
    }

    #[test]
    fn every_page_and_the_help() {
        for page in Page::ALL {
            let look = Look { page, ..Look::default() };
            insta::assert_snapshot!(format!("{}-80x24", page.title()), drawn(&shown(), look, (80, 24)));
        }
        insta::assert_snapshot!("help-80x24", drawn(&shown(), Look { help: true, ..Look::default() }, (80, 24)));
        assert_eq!(Page::Overview.before(), Page::Warnings);
        assert_eq!(Page::Warnings.moved(1), Page::Overview);
    }

    #[test]
    fn colours_change_no_letter_and_without_them_nothing_is_styled() {
        let coloured = drawn(&shown(), Look { colour: true, ..Look::default() }, (80, 24));
        let plain = drawn(&shown(), Look::default(), (80, 24));
        let symbols =
            |backend: &TestBackend| backend.buffer().content().iter().map(|cell| cell.symbol().to_owned()).collect::<String>();
        assert_eq!(symbols(&coloured), symbols(&plain));
        assert!(
            plain
                .buffer()
                .content()
                .iter()
                .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset && cell.modifier.is_empty())
        );
        assert!(coloured.buffer().content().iter().any(|cell| cell.fg != Color::Reset));
    }

    #[test]
    fn no_size_and_no_value_is_too_much() {
        let mut odd = shown();
        odd.losses = vec![(5.0, f64::MAX), (6.0, f64::MIN), (7.0, f64::NAN), (8.0, f64::INFINITY)];
        odd.held_out = vec![(8.0, 1e300)];
        odd.directory = "\u{1b}[31mred\n".repeat(40);
        odd.name = odd.directory.clone();
        (odd.step, odd.steps) = (u64::MAX, Some(1));
        (odd.run_left, odd.job_left, odd.silent) = (Some(f64::MAX), Some(f64::NAN), Some(f64::INFINITY));
        odd.warnings = vec!["w".repeat(5000); 100];
        let sizes = [(1, 1), (1, 40), (200, 1), (2, 2), (3, 5), (10, 6), (19, 19), (70, 18), (71, 19), (300, 100)];
        for (shown, size) in [shown(), odd, nothing()].iter().flat_map(|shown| sizes.map(|size| (shown, size))) {
            for look in Page::ALL.iter().flat_map(|page| [false, true].map(|help| (*page, help))) {
                drawn(shown, Look { page: look.0, help: look.1, colour: true, scrolled: 7 }, size);
            }
        }
    }
}
