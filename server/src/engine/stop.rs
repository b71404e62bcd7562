//! Stop strings: text is released as soon as it can no longer be the beginning of one, and never before.

/// Holds back text that may turn out to be a stop string.
#[derive(Debug)]
pub(crate) struct StopBuffer {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopBuffer {
    /// A buffer for `stops`, none of which is empty.
    pub(crate) fn new(stops: Vec<String>) -> StopBuffer {
        StopBuffer { stops, held: String::new(), stopped: false }
    }

    /// Adds `text` and returns what may be shown now. Once a stop string is complete, what came before it is returned,
    /// the rest is dropped, and [`StopBuffer::stopped`] is true.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(position) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(position);
            return std::mem::take(&mut self.held);
        }
        let kept = self.held.split_off(self.first_possible_stop());
        std::mem::replace(&mut self.held, kept)
    }

    /// What is still held back when nothing more follows.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// The first byte from which everything held is the beginning of a stop string.
    fn first_possible_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = self.held.char_indices().map(|(at, _)| at).filter(|&at| at >= from);
        starts.into_iter().find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]))).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool, String) {
        let mut buffer = StopBuffer::new(stops.iter().map(|s| s.to_string()).collect());
        let shown = pieces.iter().map(|piece| buffer.push(piece)).collect();
        let stopped = buffer.stopped();
        (shown, stopped, buffer.finish())
    }

    #[test]
    fn without_stop_strings_everything_passes() {
        assert_eq!(run(&[], &["a", "b"]), (vec!["a".into(), "b".into()], false, String::new()));
    }

    #[test]
    fn a_stop_string_over_several_pieces_is_never_shown() {
        let (shown, stopped, rest) = run(&["END"], &["one E", "N", "D two"]);
        assert_eq!((shown.concat().as_str(), stopped, rest.as_str()), ("one ", true, ""));
        assert_eq!(shown[1], "");
    }

    #[test]
    fn a_false_start_is_released_in_full() {
        let (shown, stopped, rest) = run(&["END"], &["E", "N", "d", "E"]);
        assert_eq!(shown, ["", "", "ENd", ""]);
        assert_eq!((stopped, rest.as_str()), (false, "E"));
    }

    #[test]
    fn overlapping_starts_and_the_earliest_of_several_win() {
        assert_eq!(run(&["aab"], &["a", "a", "a", "b!"]).0.concat(), "a");
        assert_eq!(run(&["late", "l"], &["xlate"]).0, ["x"]);
    }

    #[test]
    fn characters_of_several_bytes_are_kept_whole() {
        let (shown, stopped, _) = run(&["صباح"], &["é ص", "با", "ح الخير"]);
        assert_eq!((shown.concat().as_str(), stopped), ("é ", true));
        let (shown, _, rest) = run(&["ص!"], &["سص", "س"]);
        assert_eq!((shown, rest), (vec!["س".to_string(), "صس".to_string()], String::new()));
    }
}
