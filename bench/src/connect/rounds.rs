//! Clients take turns in short batches, in another order each round, so that whatever
//! else the machine does hits all of them alike.

use anyhow::Result;

use super::{
    coordinator::Client,
    protocol::{Answer, Request, Work},
};
use crate::stats::Samples;

/// One of those that take turns.
#[derive(Debug)]
pub struct Turn {
    /// Its name in reports.
    pub name: String,
    /// Which of the clients does it.
    pub client: usize,
    /// What it does, in one batch.
    pub request: Request,
}

/// Samples of one kind, in nanoseconds.
#[derive(Debug)]
pub struct Series {
    /// All of them.
    pub all: Samples,
    /// The median of each round: rounds are paired between turns.
    by_round: Vec<f64>,
}

impl Series {
    fn new(rounds: &[Vec<f64>]) -> Self {
        Self {
            all: rounds.iter().flatten().copied().collect(),
            by_round: rounds
                .iter()
                .map(|round| Samples::new(round.clone()).median())
                .collect(),
        }
    }

    /// Median over the rounds of the ratio to `base` in the same round.
    pub fn ratio(&self, base: &Self) -> f64 {
        self.paired(base, |ours, theirs| ours / theirs)
    }

    /// Median over the rounds of the difference to `base` in the same round.
    pub fn added(&self, base: &Self) -> f64 {
        self.paired(base, |ours, theirs| ours - theirs)
    }

    fn paired(&self, base: &Self, how: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.by_round.iter().zip(&base.by_round);
        pairs
            .map(|(ours, theirs)| how(*ours, *theirs))
            .collect::<Samples>()
            .median()
    }
}

/// What a turn measured.
#[derive(Debug)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Its work.
    pub work: Work,
    /// First samples.
    pub first: Series,
    /// Second samples, of work that has them.
    pub second: Option<Series>,
    /// The time of one piece of work as a whole: a sample for each batch.
    pub whole: Series,
}

/// Runs all turns `rounds` times.
pub fn run(clients: &mut [Client], turns: &[Turn], rounds: usize) -> Result<Vec<Measured>> {
    let mut answers: Vec<Vec<Answer>> = turns.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..turns.len()).collect();
    // The first round is not counted.
    for round in 0..=rounds {
        fastrand::shuffle(&mut order);
        for &index in &order {
            let turn = &turns[index];
            let answer = clients[turn.client].ask(&turn.request)?;
            if round > 0 {
                answers[index].push(answer);
            }
        }
    }
    let measured = turns.iter().zip(answers).map(|(turn, answers)| {
        let series = |samples: fn(&Answer) -> &Vec<u32>| {
            let rounds = answers.iter().map(|answer| numbers(samples(answer)));
            Series::new(&rounds.collect::<Vec<_>>())
        };
        let work = turn.request.work;
        let times = turn.request.times as f64;
        let whole = answers
            .iter()
            .map(|answer| vec![answer.whole as f64 / times]);
        Measured {
            name: turn.name.clone(),
            work,
            first: series(|answer| &answer.first),
            second: (work == Work::Datagrams).then(|| series(|answer| &answer.second)),
            whole: Series::new(&whole.collect::<Vec<_>>()),
        }
    });
    Ok(measured.collect())
}

fn numbers(samples: &[u32]) -> Vec<f64> {
    samples.iter().copied().map(f64::from).collect()
}
