//! How somebody looks at a run: which page, how far down, with colours or without.
use ratatui::style::{Color, Modifier, Style};

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Page {
    #[default]
    Overview,
    Curve,
    Jobs,
    Warnings,
}

impl Page {
    pub(crate) const ALL: [Page; 4] = [Page::Overview, Page::Curve, Page::Jobs, Page::Warnings];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Page::Overview => "overview",
            Page::Curve => "curve",
            Page::Jobs => "jobs",
            Page::Warnings => "warnings",
        }
    }

    /// The page so many places further on, around the end.
    pub(crate) fn moved(self, places: usize) -> Page {
        Page::ALL[(self as usize + places) % Page::ALL.len()]
    }

    /// The one before.
    pub(crate) fn before(self) -> Page {
        self.moved(Page::ALL.len() - 1)
    }
}

/// How somebody looks at a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) page: Page,
    pub(crate) help: bool,
    pub(crate) colour: bool,
    /// Lines of a list that are above the screen.
    pub(crate) scrolled: u16,
}

impl Look {
    /// A style that is only there where there are colours.
    pub(crate) fn colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(crate) fn bold(self) -> Style {
        if self.colour { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() }
    }
}
