//! What was measured, for people and for machines: a line as each is done, JSON, and a page of Markdown.

use super::{
    figure::{Cost, Figure, OURS, PLAIN, Target, Unit, median, spread},
    machine::Machine,
    notes,
    rows::{self, Row},
};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// On what.
    pub machine: Machine,
    /// The rows, in the order of the table.
    pub rows: Vec<Measured>,
}

/// A row that was measured, or could not be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// How it is measured.
    pub about: String,
    /// Each time that it was.
    pub sittings: Vec<Sitting>,
}

/// One time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sitting {
    /// Seconds for each contender in each round.
    pub seconds: f64,
    /// How many rounds.
    pub rounds: usize,
    /// The profile that our programs were built with.
    pub profile: String,
    /// How many cores others kept busy just before.
    pub others: f64,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Why nothing was.
    pub failure: Option<String>,
}

impl Page {
    /// Puts a row in its place, in that of an older one if there is one.
    pub fn put(&mut self, row: &Row, sittings: Vec<Sitting>) {
        self.rows.retain(|old| old.name != row.name);
        self.rows.push(Measured { name: row.name.into(), about: row.about.into(), sittings });
        let place = |name: &str| rows::ALL.iter().position(|row| row.name == name);
        self.rows.sort_by_key(|row| place(&row.name));
    }
}

impl Measured {
    /// Whether it was measured each time, and every target was met each time.
    pub fn good(&self) -> bool {
        let met = |figure: &Figure| figure.targets.iter().all(|target| target.met(figure) == Some(true));
        self.sittings.iter().all(|sitting| sitting.failure.is_none() && sitting.figures.iter().all(met))
    }
}

/// Reads what was written before.
pub fn read(text: &str) -> Result<Page> {
    Ok(serde_json::from_str(text)?)
}

/// Prints one row as it is done.
pub fn print(row: &Row, sitting: &Sitting) {
    println!("{}  ({:.1} cores busy with other things before)", row.name, sitting.others);
    if let Some(failure) = &sitting.failure {
        println!("  not run: {failure}");
    }
    for figure in &sitting.figures {
        println!("  {}", line(figure).join(" | "));
        for cost in &figure.costs {
            let [who, cores, each, resident] = took(figure, cost);
            println!("      {who}: {cores} cores, {each} for each, {resident} processes");
        }
    }
}

/// what, plain, peers, ours, ratio, spread, target.
fn line(figure: &Figure) -> [String; 7] {
    let show = |values: &[f64]| figure.unit.show(median(values));
    let of = |who: &str| figure.of(who).map_or_else(|| "–".into(), |reached| show(&reached.values));
    let peers: Vec<_> = figure.peers().map(|peer| format!("{} {}", peer.who, show(&peer.values))).collect();
    let ratios: Vec<_> = figure.reached.iter().filter(|reached| reached.who != OURS).collect();
    let ratios = ratios.iter().filter_map(|reached| Some((&reached.who, figure.ratios(&reached.who)?)));
    let (ratios, spreads): (Vec<_>, Vec<_>) = ratios
        .map(|(who, ratios)| (format!("{:.2} × {who}", median(&ratios)), format!("{:.0} %", spread(&ratios) * 100.0)))
        .unzip();
    let own = figure.of(OURS).map_or_else(String::new, |ours| format!("{:.0} %", spread(&ours.values) * 100.0));
    let targets: Vec<_> =
        figure.targets.iter().map(|target| verdict(figure.unit, target, target.met(figure))).collect();
    let or = |parts: Vec<String>, none: &str| if parts.is_empty() { none.to_owned() } else { parts.join(", ") };
    [figure.what.clone(), of(PLAIN), or(peers, "–"), of(OURS), or(ratios, "–"), or(spreads, &own), or(targets, "–")]
}

fn verdict(unit: Unit, target: &Target, met: Option<bool>) -> String {
    let word = match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "not compared",
    };
    format!("{}: {word}", target.show(unit))
}

/// whose, cores, for each, resident.
fn took(figure: &Figure, cost: &Cost) -> [String; 4] {
    let each = figure.each(&cost.who).map_or_else(
        || "–".into(),
        |each| match figure.unit {
            Unit::Bits => format!("{} a GB", Unit::Seconds.show(median(&each) * 8e9)),
            _ => Unit::Seconds.show(median(&each)),
        },
    );
    let resident = format!("{} in {}", Unit::Bytes.show(median(&cost.resident)), cost.processes);
    [cost.who.clone(), format!("{:.2}", median(&cost.cores)), each, resident]
}

/// The page.
pub fn markdown(page: &Page) -> String {
    let machine = &page.machine;
    let mut out = format!(
        "{HEAD}Measured on {} cores, {} GiB of memory, Linux {}, with {}.\n\n",
        machine.cores,
        machine.memory,
        machine.kernel,
        machine.versions.join(", ")
    );
    out.push_str(&summary(page));
    for row in &page.rows {
        let _ = writeln!(out, "## {}\n\n{}.\n", row.name, row.about);
        if let Some(note) = notes::of(&row.name) {
            let _ = writeln!(out, "{}\n", note.trim());
        }
        for (at, sitting) in row.sittings.iter().enumerate() {
            write_sitting(&mut out, at + 1, sitting);
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Every target, with what each sitting came to.
fn summary(page: &Page) -> String {
    let mut lines = Vec::new();
    for row in &page.rows {
        let not_run = row.sittings.iter().filter(|sitting| sitting.failure.is_some()).count();
        if not_run > 0 {
            let of = row.sittings.len();
            lines.push((
                None,
                format!("| [{0}](#{0}) | **not run** in {not_run} of {of} sittings | – | – | – |", row.name),
            ));
        }
        // The figures of a row are the same in each sitting.
        let Some(first) = row.sittings.iter().find(|sitting| sitting.failure.is_none()) else { continue };
        for (figure, target) in
            first.figures.iter().flat_map(|figure| figure.targets.iter().map(move |one| (figure, one)))
        {
            let same = |sitting: &Sitting| {
                let found = sitting.figures.iter().find(|other| other.what == figure.what)?;
                Some((target.came_to(found)?, target.met(found)?))
            };
            let came: Vec<Option<(f64, bool)>> =
                row.sittings.iter().filter(|sitting| sitting.failure.is_none()).map(same).collect();
            let met = came.iter().all(|one| one.is_some_and(|(_, met)| met));
            let shown: Vec<String> = came
                .iter()
                .map(|one| {
                    one.map_or_else(|| "not compared".into(), |(value, _)| target.show_value(figure.unit, value))
                })
                .collect();
            let word = if met { "met" } else { "**missed**" };
            lines.push((
                Some(met),
                format!(
                    "| [{0}](#{0}) | {1} | {2} | {3} | {word} |",
                    row.name,
                    figure.what,
                    target.show(figure.unit),
                    shown.join(", ")
                ),
            ));
        }
    }
    let count = |wanted: Option<bool>| lines.iter().filter(|(met, _)| *met == wanted).count();
    let (met, missed) = (count(Some(true)), count(Some(false)));
    let mut out = format!(
        "## Targets\n\n{met} of {} are met in every sitting.\n\n| row | what | target | came to, sitting by sitting | |\n\
         |---|---|---|---|---|\n",
        met + missed
    );
    lines.iter().for_each(|(_, line)| out.extend([line, "\n"]));
    out.push('\n');
    out
}

fn write_sitting(out: &mut String, number: usize, sitting: &Sitting) {
    let _ = writeln!(
        out,
        "Sitting {number}: {} rounds of {} s, our programs built with `--profile {}`, {:.1} cores busy with other things \
         just before.\n",
        sitting.rounds, sitting.seconds, sitting.profile, sitting.others
    );
    if let Some(failure) = &sitting.failure {
        let _ = writeln!(out, "Not run: {}\n", failure.replace('\n', " "));
        return;
    }
    out.push_str("| what | plain | peer | ours | ratio | spread | target |\n|---|---|---|---|---|---|---|\n");
    for figure in &sitting.figures {
        let _ = writeln!(out, "| {} |", line(figure).join(" | "));
    }
    out.push('\n');
    let costs: Vec<_> = sitting.figures.iter().filter(|figure| !figure.costs.is_empty()).collect();
    if costs.is_empty() {
        return;
    }
    out.push_str("| proxies | of | cores | for each | resident, all of them |\n|---|---|---|---|---|\n");
    for (figure, cost) in costs.iter().flat_map(|figure| figure.costs.iter().map(move |cost| (figure, cost))) {
        let _ = writeln!(out, "| {} | {} |", figure.what, took(figure, cost).join(" | "));
    }
    out.push('\n');
}

const HEAD: &str = "\
# Performance

What the mesh costs, beside what people would pick instead. This page is written by

```console
cargo run --release -p e2e -- bench --sittings 2 --json target/bench.json --write docs/performance.md
```

which builds two nodes and their pods in the namespaces of [the lab](lab.md), and gives each contender its turn, round by
round: plain, peer, ours, plain, peer, ours. Client, proxies and server share all cores of the machine. **An absolute number
means nothing here, a ratio does**: it is made within a round, and the table has the median of the rounds' ratios, and their
spread (the whole range, as a share of the median). Targets without a ratio are of what hardly depends on the load of the
machine (memory, bytes), or are hard limits. `cores` are seconds of a core that all proxies of a contender used in each
second; what that is for each gigabyte, request or connection hardly depends on what else the machine does. Memory is resident
afterwards, of all processes together. A row that could not run says why; nothing is estimated. A contender whose proxies
had nothing to do while it was measured fails its row: what was measured went around them.

Envoy is set up as a sidecar would be: two threads, TLS 1.3 with P-256 certificates on both sides. It is spoken to on the
loopback, so it is spared the redirection that our proxies have, and it writes no access log; ours writes a line for each
connection, as it does by default. haproxy has two threads, nginx two processes, both keep connections to the server.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let targets = [Target::AtLeast(0.24, PLAIN.into()), Target::AtLeast(1.2, "envoy".into())];
        let mut figure = Figure::new("one bulk stream", Unit::Bits, &targets);
        for (plain, envoy, ours) in [(20e9, 4e9, 5e9), (10e9, 2e9, 2.2e9)] {
            figure.add(PLAIN, plain);
            figure.add("envoy", envoy);
            figure.add(OURS, ours);
        }
        figure.cost(OURS, 2, 1.5, 30e6);
        let good = Sitting { seconds: 2.0, rounds: 2, figures: vec![figure], ..Sitting::default() };
        let failed = Sitting { failure: Some("no lab".into()), ..Sitting::default() };
        let mut page = Page::default();
        page.put(&rows::ALL[1], vec![failed]);
        page.put(&rows::ALL[0], vec![good]);
        page
    }

    #[test]
    fn a_line_says_what_was_reached_and_promised() {
        let page = page();
        let line = line(&page.rows[0].sittings[0].figures[0]);
        let want = [
            "one bulk stream",
            "15.0 Gbit/s",
            "envoy 3.00 Gbit/s",
            "3.60 Gbit/s",
            "0.23 × plain, 1.18 × envoy",
            "13 %, 13 %",
            "≥ 0.24 × plain: **missed**, ≥ 1.2 × envoy: **missed**",
        ];
        assert_eq!(line, want);
    }

    #[test]
    fn rows_stand_in_the_order_of_the_table_and_replace_older_ones() {
        let mut page = page();
        assert_eq!(page.rows.iter().map(|row| &*row.name).collect::<Vec<_>>(), [rows::ALL[0].name, rows::ALL[1].name]);
        page.put(&rows::ALL[0], Vec::new());
        assert_eq!(page.rows.len(), 2);
        assert!(page.rows[0].sittings.is_empty() && page.rows[0].good() && !page.rows[1].good());
    }

    #[test]
    fn the_summary_has_every_target_and_what_did_not_run() {
        let text = summary(&page());
        for line in [
            "0 of 2 are met in every sitting.",
            "| [bulk](#bulk) | one bulk stream | ≥ 0.24 × plain | 0.235 × plain | **missed** |",
            "| [requests](#requests) | **not run** in 1 of 1 sittings | – | – | – |",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let page = page();
        assert_eq!(read(&serde_json::to_string(&page).unwrap()).unwrap(), page);
        let text = markdown(&page);
        assert!(
            text.contains("Not run: no lab")
                && text.contains("| one bulk stream | ours | 1.50 | 2.40 s a GB | 30.0 MB in 2 |"),
            "{text}"
        );
    }
}
