//! What was measured, and what follows from it: medians, ratios of pairs, how far they spread, and whether a
//! target is met. Pure.
//!
//! An absolute number of a shared machine means nothing, the ratio of two that were measured one after the other
//! does. So each round measures every contender once, a ratio is made within a round, and the median of those
//! ratios is what is compared with the target.

use serde::{Deserialize, Serialize};

/// The name of what is ours, among the contenders.
pub const OURS: &str = "ours";
/// The name of the way without any proxy.
pub const PLAIN: &str = "plain";

/// In what something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bits a second.
    Bits,
    /// Events a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
    /// One of a hundred.
    Percent,
}

impl Unit {
    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Bits => scaled(value, &[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1.0, "bit/s")]),
            Self::PerSecond => scaled(value, &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
            Self::Seconds => scaled(value, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]),
            Self::Bytes => scaled(value, &[(1e6, "MB"), (1e3, "kB"), (1.0, "B")]),
            Self::Count if value.fract() == 0.0 => format!("{value:.0}"),
            Self::Count => format!("{value:.2}"),
            Self::Percent => format!("{value:.1} %"),
        }
    }
}

fn scaled(value: f64, scales: &[(f64, &str)]) -> String {
    let fits = scales.iter().find(|(scale, _)| value.abs() >= *scale);
    let Some((scale, name)) = fits.or_else(|| scales.last()) else { return value.to_string() };
    let value = value / scale;
    let places = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$} {name}")
}

/// What is promised of a figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Ours is at least so many times a contender's.
    AtLeast(f64, String),
    /// Ours is at most so many times a contender's.
    AtMost(f64, String),
    /// Ours is at least this.
    NoLess(f64),
    /// Ours is at most this.
    NoMore(f64),
}

impl Target {
    /// `≥ 1.2 × envoy`.
    pub fn show(&self, unit: Unit) -> String {
        match self {
            Self::AtLeast(times, of) => format!("≥ {times} × {of}"),
            Self::AtMost(times, of) => format!("≤ {times} × {of}"),
            Self::NoLess(value) => format!("≥ {}", unit.show(*value)),
            Self::NoMore(value) => format!("≤ {}", unit.show(*value)),
        }
    }

    /// What a figure came to, in what this target counts; `None` where what it is compared with was not measured.
    pub fn came_to(&self, figure: &Figure) -> Option<f64> {
        Some(match self {
            Self::AtLeast(_, of) | Self::AtMost(_, of) => median(&figure.ratios(of)?),
            Self::NoLess(_) | Self::NoMore(_) => median(&figure.of(OURS)?.values),
        })
    }

    /// Whether a figure meets it; `None` as there.
    pub fn met(&self, figure: &Figure) -> Option<bool> {
        let value = self.came_to(figure)?;
        Some(match self {
            Self::AtLeast(least, _) | Self::NoLess(least) => value >= *least,
            Self::AtMost(most, _) | Self::NoMore(most) => value <= *most,
        })
    }

    /// A value of its own, as people read it.
    pub fn show_value(&self, unit: Unit, value: f64) -> String {
        match self {
            Self::AtLeast(_, of) | Self::AtMost(_, of) => format!("{value:.3} × {of}"),
            Self::NoLess(_) | Self::NoMore(_) => unit.show(value),
        }
    }
}

/// What one contender reached, round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Who.
    pub who: String,
    /// One value a round.
    pub values: Vec<f64>,
}

/// What the proxies of a contender used while it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Whose proxies.
    pub who: String,
    /// How many processes they are.
    pub processes: usize,
    /// Seconds of a core, in each second; one value a round.
    pub cores: Vec<f64>,
    /// Resident bytes of all of them afterwards; one value a round.
    pub resident: Vec<f64>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: Unit,
    /// By whom, in the order in which they were measured.
    pub reached: Vec<Reached>,
    /// What is promised.
    pub targets: Vec<Target>,
    /// What it took, where proxies were at work.
    pub costs: Vec<Cost>,
}

impl Figure {
    /// A figure of which nothing was measured yet.
    pub fn new(what: &str, unit: Unit, targets: &[Target]) -> Self {
        Self { what: what.into(), unit, reached: Vec::new(), targets: targets.to_vec(), costs: Vec::new() }
    }

    /// Adds a value to what somebody has reached.
    pub fn add(&mut self, who: &str, value: f64) {
        match self.reached.iter_mut().find(|reached| reached.who == who) {
            Some(reached) => reached.values.push(value),
            None => self.reached.push(Reached { who: who.into(), values: vec![value] }),
        }
    }

    /// Adds what it took.
    pub fn cost(&mut self, who: &str, processes: usize, cores: f64, resident: f64) {
        match self.costs.iter_mut().find(|cost| cost.who == who) {
            Some(cost) => {
                cost.cores.push(cores);
                cost.resident.push(resident);
            }
            None => {
                let (cores, resident) = (vec![cores], vec![resident]);
                self.costs.push(Cost { who: who.into(), processes, cores, resident });
            }
        }
    }

    /// As [`Figure::add`], as one expression.
    pub fn with(mut self, who: &str, value: f64) -> Self {
        self.add(who, value);
        self
    }

    /// What somebody has reached.
    pub fn of(&self, who: &str) -> Option<&Reached> {
        self.reached.iter().find(|reached| reached.who == who && !reached.values.is_empty())
    }

    /// Ours to somebody's, round by round.
    pub fn ratios(&self, of: &str) -> Option<Vec<f64>> {
        let (ours, theirs) = (self.of(OURS)?, self.of(of)?);
        let pairs: Vec<f64> = ours.values.iter().zip(&theirs.values).map(|(ours, theirs)| ours / theirs).collect();
        (!pairs.is_empty()).then_some(pairs)
    }

    /// Seconds of a core that a contender's proxies used for each bit or event, round by round; of rates only.
    pub fn each(&self, who: &str) -> Option<Vec<f64>> {
        let cost = self.costs.iter().find(|cost| cost.who == who)?;
        let rate = self.of(who).filter(|_| matches!(self.unit, Unit::Bits | Unit::PerSecond))?;
        Some(cost.cores.iter().zip(&rate.values).map(|(cores, rate)| cores / rate).collect())
    }

    /// Who stands in the table beside us and the plain way.
    pub fn peers(&self) -> impl Iterator<Item = &Reached> {
        self.reached.iter().filter(|reached| reached.who != OURS && reached.who != PLAIN)
    }
}

/// The middle value; between the two middle ones where there are two. Not a number if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// How far values lie apart: the whole range, as a share of the median.
pub fn spread(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values {
        [] => f64::NAN,
        // Also where all are nothing.
        _ if most == least => 0.0,
        _ => (most - least) / median(values),
    }
}

/// The line through points, by least squares: where it begins, and how steep it is.
pub fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let across: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let along: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = if along == 0.0 { 0.0 } else { across / along };
    (y - slope * x, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, want) in [(&[3.0][..], 3.0), (&[5.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert_eq!(median(values), want, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_spread_is_the_range_by_the_median() {
        for (values, want) in [(&[2.0][..], 0.0), (&[1.0, 2.0, 3.0], 1.0), (&[9.0, 10.0, 11.0, 10.0], 0.2)] {
            assert_eq!(spread(values), want, "{values:?}");
        }
        assert!(spread(&[]).is_nan());
        assert_eq!(spread(&[0.0, 0.0]), 0.0);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        for (points, want) in [
            (&[(1000.0, 12.0), (10_000.0, 30.0)][..], (10.0, 0.002)),
            (&[(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)], (5.0, 0.0)),
            (&[(7.0, 3.0)], (3.0, 0.0)),
        ] {
            let (begin, slope) = line(points);
            assert!((begin - want.0).abs() < 1e-9 && (slope - want.1).abs() < 1e-9, "{points:?}: {begin} {slope}");
        }
    }

    #[test]
    fn a_ratio_is_made_within_a_round() {
        let mut figure = Figure::new("x", Unit::Count, &[]);
        // The second round was measured on a machine of half the speed: the ratios do not see that.
        for (ours, plain) in [(30.0, 100.0), (15.0, 50.0)] {
            figure.add(PLAIN, plain);
            figure.add(OURS, ours);
        }
        assert_eq!(figure.ratios(PLAIN), Some(vec![0.3, 0.3]));
        assert_eq!(figure.ratios("envoy"), None);
    }

    #[test]
    fn what_each_costs_is_of_its_own_round() {
        let mut figure = Figure::new("x", Unit::PerSecond, &[]).with(OURS, 1000.0).with(OURS, 500.0);
        figure.cost(OURS, 1, 1.0, 0.0);
        figure.cost(OURS, 1, 0.5, 0.0);
        assert_eq!(figure.each(OURS), Some(vec![0.001, 0.001]));
        assert_eq!((figure.each(PLAIN), Figure { unit: Unit::Bytes, ..figure }.each(OURS)), (None, None));
    }

    #[test]
    fn targets_are_judged_by_the_median() {
        let figure = |ours: &[f64]| {
            let mut figure = Figure::new("x", Unit::Count, &[]);
            for value in ours {
                figure.add(PLAIN, 100.0);
                figure.add(OURS, *value);
            }
            figure
        };
        let plain = || PLAIN.to_owned();
        for (target, ours, want) in [
            (Target::AtLeast(0.25, plain()), &[26.0, 24.0, 25.0][..], Some(true)),
            (Target::AtLeast(0.25, plain()), &[24.9], Some(false)),
            (Target::AtMost(3.0, plain()), &[300.0], Some(true)),
            (Target::AtMost(3.0, plain()), &[301.0], Some(false)),
            (Target::NoMore(8.0), &[8.0], Some(true)),
            (Target::NoMore(8.0), &[8.1], Some(false)),
            (Target::NoLess(3000.0), &[2999.0], Some(false)),
            (Target::AtLeast(1.2, "envoy".into()), &[1.0], None),
            (Target::NoLess(1.0), &[], None),
        ] {
            assert_eq!(target.met(&figure(ours)), want, "{target:?} of {ours:?}");
        }
    }

    #[test]
    fn values_are_shown_as_people_read_them() {
        for (unit, value, want) in [
            (Unit::Bits, 27.04e9, "27.0 Gbit/s"),
            (Unit::PerSecond, 93_210.0, "93.2 k/s"),
            (Unit::PerSecond, 16.0, "16.0 /s"),
            (Unit::Seconds, 0.000_4, "400 µs"),
            (Unit::Seconds, 0.0012, "1.20 ms"),
            (Unit::Bytes, 7_654_321.0, "7.65 MB"),
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::Count, 1000.0, "1000"),
            (Unit::Count, 1.25, "1.25"),
        ] {
            assert_eq!(unit.show(value), want);
        }
    }
}
