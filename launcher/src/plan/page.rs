//! The plan as a page: what is computed, where, the meshes beside each other, the chosen one line by line, the run, and more nodes.
use std::fmt::Write as _;

use sirocco_config::{Parallel, Recompute};
use sirocco_plan::{Candidate, Scaled, Trained};

use super::Planned;
use crate::output::{bytes, count, duration, grouped, mesh};

/// What nobody knows.
const NOT_KNOWN: &str = "not known";

/// The whole page.
pub(crate) fn page(planned: &Planned) -> String {
    let mut page = Page { planned, text: String::new() };
    page.head();
    page.meshes();
    page.chosen();
    page.run();
    page.nodes();
    page.text
}

struct Page<'a> {
    planned: &'a Planned,
    text: String,
}

impl Page<'_> {
    /// A line; text cannot refuse one.
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{}", text.trim_end());
    }

    fn head(&mut self) {
        let Planned { model, parameters, place, data, work, .. } = self.planned;
        let words = format!("{} parameters, {} layers", grouped(*parameters), model.layers);
        self.line(&format!("model      {words}"));
        let method = match &work.trained {
            Trained::Full => "every weight trained".to_owned(),
            Trained::Lora { rank, targets } => format!("LoRA of rank {rank} on {}", count(targets.len() as u64, "projection")),
        };
        let (batch, length, micro) = (work.global_batch, work.sequence_length, work.micro_batch);
        self.line(&format!("work       {method}; a step is {batch} sequences of {length} tokens, {micro} in a forward"));
        let share = |part: f64| format!("{:.0} %", 100.0 * part);
        let texture = data.texture;
        let seen = match &data.without {
            None => format!(
                "{} read: a token stands in a document of {:.0}, {} are targets, sequences are {} full",
                count(data.records as u64, "record"),
                texture.document,
                share(texture.targets),
                share(texture.filled)
            ),
            Some(reason) => format!("supposed to be whole sequences, every token a target ({reason})"),
        };
        self.line(&format!("data       {seen}"));
        let partition = place.partition.as_ref().map_or_else(String::new, |name| format!(", partition {name}"));
        let each = count(place.ranks_per_node, "rank");
        self.line(&format!(
            "place      {}{partition}: {} with {each} each; {}",
            place.title,
            count(place.nodes, "node"),
            place.node
        ));
        self.line(&format!("speed      {}", place.speed));
    }

    fn meshes(&mut self) {
        let planned = self.planned;
        let ranks = count(planned.place.ranks(), "rank");
        self.line("");
        self.line(&format!(
            "{:<34}{:<11}{:>10}  {:>10}{:>12}{:>8}",
            format!("mesh of {ranks}"),
            "recompute",
            "memory",
            "step",
            "tokens/s",
            "peak"
        ));
        planned.candidates.iter().for_each(|candidate| self.row(candidate));
        // What was typed stands beside the best, wherever it would come.
        let typed = planned.as_typed.as_ref().filter(|typed| planned.candidates.iter().all(|one| one.parallel != typed.parallel));
        typed.into_iter().for_each(|typed| self.row(typed));
        if planned.not_shown > 0 {
            self.line(&format!("{} more were compared", planned.not_shown));
        }
    }

    fn row(&mut self, candidate: &Candidate) {
        let planned = self.planned;
        let step = candidate.step.map_or_else(|| NOT_KNOWN.to_owned(), |step| format!("{} s", number(step.seconds)));
        let tokens = candidate.tokens_per_s.map_or_else(String::new, number);
        let peak = candidate.share_of_peak.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
        let fits = if candidate.fits == Some(false) { "!" } else { " " };
        let (shape, recompute, memory) =
            (shape(&candidate.parallel), recompute(&candidate.parallel), bytes(candidate.memory_bytes));
        let typed = match &planned.as_typed {
            Some(typed) if typed.parallel != candidate.parallel => String::new(),
            Some(typed) if typed.parallel.ranks() != planned.place.ranks() => {
                format!("  as typed, {}", count(typed.parallel.ranks(), "rank"))
            }
            Some(_) => "  as typed".to_owned(),
            None => String::new(),
        };
        self.line(&format!("{shape:<34}{recompute:<11}{memory:>10}{fits} {step:>10}{tokens:>12}{peak:>8}{typed}"));
    }

    fn chosen(&mut self) {
        let planned = self.planned;
        let room = planned.place.room_bytes;
        self.line("");
        let Some(chosen) = &planned.chosen else {
            let least = planned.candidates.first().map_or(0, |candidate| candidate.memory_bytes);
            let room = room.map_or_else(|| NOT_KNOWN.to_owned(), bytes);
            self.line(&format!("Nothing fits (!): a rank has {room}, and the least that one needs is {}.", bytes(least)));
            let lora = if planned.work.trained == Trained::Full { ", or LoRA in place of full fine-tuning" } else { "" };
            self.line(&format!("More nodes, a smaller train.micro_batch or data.sequence_length{lora} would need less."));
            return;
        };
        let room = room
            .map_or_else(|| "how much a rank has is not known".to_owned(), |room| format!("of {} that a rank has", bytes(room)));
        let (shape, recompute) = (shape(&chosen.parallel), recompute(&chosen.parallel));
        self.line(&format!("{shape}, recompute {recompute}: {} on the rank that needs most, {room}", bytes(chosen.memory_bytes)));
        for part in chosen.memory.parts().iter().filter(|part| part.bytes > 0) {
            self.line(&format!("  {:<16}{:>10}  {}", part.name, bytes(part.bytes), part.words));
        }
        let Some(step) = chosen.step else { return };
        let share = |seconds: f64| format!("{:.0} %", 100.0 * seconds / step.seconds);
        self.line(&format!("one step: {} s", number(step.seconds)));
        let exchanging = if step.exchanging > 0.0 { ", exchanges between ranks that share products included" } else { "" };
        self.line(&format!(
            "  {:<16}{:>10}  {}{exchanging}",
            "computing",
            format!("{} s", number(step.computing)),
            share(step.computing)
        ));
        let hidden =
            format!("for {} s of communication, the rest of it hidden, and for other stages", number(step.communicating));
        self.line(&format!("  {:<16}{:>10}  {} {hidden}", "waiting", format!("{} s", number(step.waiting)), share(step.waiting)));
        self.line(&format!("  {:<16}{:>10}  {}", "optimizer", format!("{} s", number(step.optimizer)), share(step.optimizer)));
    }

    fn run(&mut self) {
        let planned = self.planned;
        if planned.steps.is_none() {
            self.line("");
            self.line("run        how many steps train.epochs are is not known without the data");
        }
        let (Some(cost), Some(steps)) = (&planned.cost, planned.steps) else { return };
        let known = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| NOT_KNOWN.to_owned(), |value| format!("{}{unit}", number(value)))
        };
        self.line("");
        let tokens = grouped((planned.work.tokens() * steps as f64).round() as u64);
        let time = cost.hours.map_or_else(|| NOT_KNOWN.to_owned(), |hours| duration(hours * 3600.0));
        self.line(&format!("run        {steps} steps, {tokens} tokens: {time}"));
        let device = if planned.place.gpu.is_some() { "GPU-hours" } else { "rank-hours" };
        self.line(&format!("           {} {device}", known(cost.rank_hours, "")));
        let energy = match planned.place.gpu.and_then(|gpu| gpu.watts) {
            Some(watts) => format!(
                "{} of the GPUs alone at {} W, the most they take ({})",
                known(cost.kwh, " kWh"),
                watts.value,
                watts.source
            ),
            _ => NOT_KNOWN.to_owned(),
        };
        self.line(&format!("energy     {energy}"));
        let each = known(cost.checkpoint_seconds, " s");
        let size = bytes(cost.checkpoint_bytes);
        let (largest, count) = (bytes(cost.shard_bytes), cost.checkpoints);
        self.line(&format!("checkpoint {size}, {count} of them; the largest part has {largest}, time to write it: {each}"));
        if let (Some(jobs), Some(limit)) = (cost.jobs, planned.run.site.time) {
            self.line(&format!(
                "jobs       {jobs} of at most {}, starts and waiting not counted",
                duration(limit.seconds() as f64)
            ));
        }
    }

    fn nodes(&mut self) {
        if self.planned.scaling.is_empty() {
            return;
        }
        self.line("");
        self.line(&format!(
            "{:>5} {:>6} {:>8}  {:<34}{:<11}{:>12}{:>8}{:>10}",
            "nodes", "ranks", "batch", "best mesh", "recompute", "tokens/s", "scales", "run"
        ));
        let most = self.planned.place.most_nodes.as_ref();
        let (given, beyond): (Vec<_>, Vec<_>) =
            self.planned.scaling.iter().partition(|scaled| most.is_none_or(|most| scaled.nodes <= most.nodes));
        given.into_iter().for_each(|scaled| self.scaled(scaled));
        if let Some(most) = most.filter(|_| !beyond.is_empty()) {
            self.line(&format!("more than {} gives a job, {}:", most.limit_of, count(most.nodes, "node")));
        }
        beyond.into_iter().for_each(|scaled| self.scaled(scaled));
        self.line(
            "The global batch grows with the nodes; the run is as many tokens as the run file has. Simulated, not measured.",
        );
    }

    fn scaled(&mut self, scaled: &Scaled) {
        let Scaled { nodes, ranks, global_batch, .. } = scaled;
        let Some(best) = &scaled.best else {
            return self.line(&format!("{nodes:>5} {ranks:>6} {global_batch:>8}  does not fit"));
        };
        let tokens = best.tokens_per_s.map_or_else(String::new, number);
        let efficiency = scaled.efficiency.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
        let all = self.planned.steps.map(|steps| self.planned.work.tokens() * steps as f64);
        let time = all.zip(best.tokens_per_s).map_or_else(String::new, |(all, rate)| duration(all / rate));
        let (shape, recompute) = (shape(&best.parallel), recompute(&best.parallel));
        self.line(&format!(
            "{nodes:>5} {ranks:>6} {global_batch:>8}  {shape:<34}{recompute:<11}{tokens:>12}{efficiency:>8}{time:>10}"
        ));
    }
}

fn shape(parallel: &Parallel) -> String {
    mesh(parallel).split(" = ").next().unwrap_or_default().to_owned()
}

fn recompute(parallel: &Parallel) -> &'static str {
    match parallel.recompute {
        Recompute::None => "none",
        Recompute::Attention => "attention",
        Recompute::Full => "full",
    }
}

/// Less than this is nothing: sums of seconds that should be 0 come close to it.
const NOTHING: f64 = 1e-9;

/// Three digits that count, of the smallest, too; more of large numbers, which have no decimals.
fn number(value: f64) -> String {
    if value.abs() < NOTHING {
        return "0".to_owned();
    }
    // Of 9.999 the third digit is that of 10.0: the exponent is of the number as it will be shown.
    let exponent = format!("{value:.2e}").split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()).unwrap_or(0);
    match usize::try_from(2 - exponent) {
        Ok(decimals) if decimals > 0 => format!("{value:.decimals$}"),
        _ => grouped(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count_however_small_a_number_is() {
        let shown = [0.0, -1e-10, 0.000_012_34, 0.0996, 0.5, 9.994, 9.996, 99.96, 999.5, 1234.4].map(number);
        assert_eq!(shown, ["0", "0", "0.0000123", "0.0996", "0.500", "9.99", "10.0", "100", "1 000", "1 234"]);
    }
}
