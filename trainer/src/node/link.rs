//! How fast nodes talk to each other: one rank on each, in pairs, with the messages that a run's pipeline uses. What is measured is what a
//! run gets from host to host, not what a network card could do.

use std::time::{Duration, Instant};

use sirocco_comm::{CommError, Communicator, Mpi, Options};
use sirocco_config::{LinkLine, LinkReport, LinkSummary};

use super::facts;
use super::tournament::{chosen, partner};
use crate::failure::{Failure, print_line};

/// Most rounds that are played; a round takes about [`SPAN`] and the small messages before.
const ROUNDS: usize = 32;

/// When a pair begins later than this, it is not measured.
const BUDGET: Duration = Duration::from_secs(3);

/// How long ranks may be out of reach before the test is given up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a pair sends large messages, and how many of them at least, unless the link is so slow that these take longest.
const SPAN: Duration = Duration::from_millis(40);
const LARGE: usize = 8;
const LONGEST: Duration = Duration::from_millis(250);

const SMALL_BYTES: usize = 8;
const SMALL: usize = 12;

/// The first large message has the smallest size; the way there and back of those after it takes about a tenth of the span.
const LEAST_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 16 << 20;

/// Measures, and prints on rank 0: a line for each pair, then the summary.
pub(super) fn run() -> Result<(), Failure> {
    let world = Mpi::start(Options { timeout: TIMEOUT }).map_err(Failure::collective)?;
    let began = Instant::now();
    let (mut own, mut summary) = (Vec::new(), LinkSummary::default());
    let outcome = names(&world)
        .and_then(|names| {
            summary.nodes = names;
            play(&world, &summary.nodes, began, &mut own)
        })
        .and_then(|()| gather(&world, &own));
    let pairs = match &outcome {
        Ok(pairs) => pairs,
        Err(error) => {
            summary.missing = missing(error, &summary.nodes, &world);
            summary.error = Some(error.to_string());
            &own
        }
    };
    if world.rank() == 0 {
        print(pairs, summary, began)?;
    }
    outcome.map(|_| ()).map_err(Failure::collective)
}

/// Every rank's node.
fn names(world: &dyn Communicator) -> Result<Vec<String>, CommError> {
    let own = facts::name(&world.place().host);
    let names = world.all_gather_bytes("names", own.into_bytes()).wait()?;
    Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Plays this rank's part of every round.
fn play(world: &dyn Communicator, names: &[String], began: Instant, own: &mut Vec<LinkReport>) -> Result<(), CommError> {
    let (rank, size) = (world.rank(), world.size());
    for round in chosen(size, ROUNDS) {
        match partner(round, rank, size) {
            Some(other) if rank < other => {
                let nodes = [rank, other].map(|rank| names.get(rank).cloned().unwrap_or_default());
                own.push(LinkReport { nodes, ..lead(world, other, began)? });
            }
            Some(other) => follow(world, other)?,
            None => {}
        }
    }
    Ok(())
}

/// Sends, and measures how long it takes to come back. An empty message ends it. The other rank may come late from the round before: it
/// says when it is there, so that nobody is measured waiting.
fn lead(world: &dyn Communicator, other: usize, began: Instant) -> Result<LinkReport, CommError> {
    world.receive_bytes("ready", other).wait()?;
    let mut report = LinkReport::default();
    if began.elapsed() > BUDGET {
        report.reason = Some(format!("the {} s for all pairs were over", BUDGET.as_secs()));
    } else {
        let mut small = f64::INFINITY;
        for _ in 0..SMALL {
            small = small.min(there_and_back(world, other, vec![1; SMALL_BYTES])?.0);
        }
        report.latency_s = Some(small / 2.0);
        report.bytes_per_s = Some(large(world, other)?);
    }
    world.send_bytes("there", other, Vec::new()).wait()?;
    Ok(report)
}

/// Bytes a second of the fastest large message: what else runs on both nodes now and then does not count.
fn large(world: &dyn Communicator, other: usize) -> Result<f64, CommError> {
    let (begun, mut best, mut data, mut sent) = (Instant::now(), 0.0f64, vec![1; LEAST_BYTES], 0);
    loop {
        let bytes = data.len();
        let (seconds, back) = there_and_back(world, other, data)?;
        best = best.max(2.0 * bytes as f64 / seconds);
        sent += 1;
        let took = begun.elapsed();
        if took > LONGEST || sent >= LARGE && took > SPAN {
            return Ok(best);
        }
        data = back;
        data.resize(((best * SPAN.as_secs_f64() / 20.0) as usize).clamp(LEAST_BYTES, MOST_BYTES), 1);
    }
}

fn there_and_back(world: &dyn Communicator, other: usize, data: Vec<u8>) -> Result<(f64, Vec<u8>), CommError> {
    let begun = Instant::now();
    world.send_bytes("there", other, data).wait()?;
    let back = world.receive_bytes("back", other).wait()?;
    Ok((begun.elapsed().as_secs_f64(), back))
}

/// Sends everything back.
fn follow(world: &dyn Communicator, other: usize) -> Result<(), CommError> {
    world.send_bytes("ready", other, vec![1]).wait()?;
    loop {
        let data = world.receive_bytes("there", other).wait()?;
        if data.is_empty() {
            return Ok(());
        }
        world.send_bytes("back", other, data).wait()?;
    }
}

/// What all ranks have measured, on all of them. A report that cannot be read is of a pair that was not measured.
fn gather(world: &dyn Communicator, own: &[LinkReport]) -> Result<Vec<LinkReport>, CommError> {
    let all = world.all_gather_bytes("links", serde_json::to_vec(own).unwrap_or_default()).wait()?;
    Ok(all.iter().flat_map(|bytes| serde_json::from_slice::<Vec<LinkReport>>(bytes).unwrap_or_default()).collect())
}

fn print(pairs: &[LinkReport], mut summary: LinkSummary, began: Instant) -> Result<(), Failure> {
    let line = |line: &LinkLine| serde_json::to_string(line).map(|text| print_line(&text)).map_err(Failure::failed);
    let ranks = summary.nodes.len() as u64;
    summary.pairs = ranks * ranks.saturating_sub(1) / 2;
    summary.measured = pairs.iter().filter(|pair| pair.bytes_per_s.is_some()).count() as u64;
    summary.seconds = began.elapsed().as_secs_f64();
    if summary.measured < summary.pairs {
        summary.reason = Some(match &summary.error {
            Some(_) => "the test was not finished".to_owned(),
            None => format!("at most {ROUNDS} pairs of each node are measured, in at most {} s", BUDGET.as_secs()),
        });
    }
    pairs.iter().try_for_each(|pair| line(&LinkLine::Pair(pair.clone())))?;
    line(&LinkLine::Summary(summary))
}

/// The nodes that an error blames.
fn missing(error: &CommError, names: &[String], world: &dyn Communicator) -> Vec<String> {
    let ranks = match error {
        CommError::TimedOut { missing, .. } => missing.ranks.clone(),
        CommError::RankDied { rank, .. } | CommError::Left { rank, .. } | CommError::Garbled { rank, .. } => vec![*rank],
        _ => Vec::new(),
    };
    // Their hosts, where the names are not known yet.
    let peers = world.peers();
    let host = |rank: usize| peers.iter().find(|peer| peer.rank == rank).map(|peer| peer.host.clone());
    ranks.into_iter().filter_map(|rank| names.get(rank).cloned().or_else(|| host(rank))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_comm::{Collective, Solo};

    fn died(rank: usize) -> CommError {
        let collective = Collective { name: "there".to_owned(), group: "world".to_owned(), sequence: 0, message: None };
        CommError::RankDied { rank, host: "n2".to_owned(), pid: 1, collective }
    }

    #[test]
    fn a_rank_that_is_lost_is_named_by_its_node() {
        let names = ["n1", "n2"].map(str::to_owned);
        assert_eq!(missing(&died(1), &names, &Solo::new()), ["n2"]);
        assert_eq!(missing(&died(7), &names, &Solo::new()), [] as [&str; 0]);
        // The names are not known yet: the host of the only rank there is.
        assert_eq!(missing(&died(0), &[], &Solo::new()).len(), 1);
        assert_eq!(missing(&CommError::Start { found: String::new() }, &names, &Solo::new()), [] as [&str; 0]);
    }
}
