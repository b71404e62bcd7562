//! Who talks to whom: rounds in which every rank has one partner, so that no two pairs are in each other's way, and over all rounds every
//! pair meets once. The circle method of round-robin tournaments: <https://en.wikipedia.org/wiki/Round-robin_tournament#Circle_method>.

/// Rounds that it takes for all pairs.
pub(super) fn rounds(ranks: usize) -> usize {
    if ranks < 2 { 0 } else { ranks + ranks % 2 - 1 }
}

/// The rounds that are played when there is time for `most`, spread evenly over all of them.
pub(super) fn chosen(ranks: usize, most: usize) -> Vec<usize> {
    let all = rounds(ranks);
    let taken = all.min(most);
    (0..taken).map(|number| number * all / taken).collect()
}

/// Whom `rank` meets in a round; nobody, in one round of an odd number.
pub(super) fn partner(round: usize, rank: usize, ranks: usize) -> Option<usize> {
    let circle = rounds(ranks);
    if circle == 0 || rank >= ranks {
        return None;
    }
    // The last place stays where it is; the others' places add up to twice the round, on a circle.
    let other = match rank == circle {
        true => round % circle,
        false => match (2 * (round % circle) + circle - rank) % circle {
            own if own == rank => circle,
            other => other,
        },
    };
    (other < ranks).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_pair_meets_once_and_nobody_twice_in_a_round() {
        for ranks in 0..40 {
            let mut met: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for round in 0..rounds(ranks) {
                for rank in 0..ranks {
                    let Some(other) = partner(round, rank, ranks) else { continue };
                    assert_ne!(other, rank);
                    assert_eq!(partner(round, other, ranks), Some(rank), "round {round} of {ranks}");
                    *met.entry((rank.min(other), rank.max(other))).or_default() += 1;
                }
                let alone = (0..ranks).filter(|rank| partner(round, *rank, ranks).is_none()).count();
                assert_eq!(alone, ranks % 2, "round {round} of {ranks}");
            }
            assert_eq!(met.len(), ranks * ranks.saturating_sub(1) / 2, "{ranks} ranks");
            assert!(met.values().all(|times| *times == 2), "each is counted from both sides");
        }
    }

    #[test]
    fn a_few_rounds_of_many_are_different_ones() {
        assert_eq!(chosen(4, 32), [0, 1, 2]);
        assert_eq!(chosen(1, 32), [] as [usize; 0]);
        let few = chosen(500, 32);
        assert_eq!(few.len(), 32);
        assert!(few.windows(2).all(|pair| pair[0] < pair[1]) && few[31] < rounds(500));
    }
}
