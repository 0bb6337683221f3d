//! The results as Markdown.

use super::result::{Crowd, Outcome, Results, Row};
use super::scenario::Scenario;

/// Heads a scenario's table.
pub(crate) fn header(scenario: Scenario) -> String {
    let columns = columns(scenario).join(" | ");
    let rule = "---|".repeat(self::columns(scenario).len());
    format!("#### {}\n\n| {columns} |\n|{rule}", scenario.title())
}

/// One line of it.
pub(crate) fn row(row: &Row) -> String {
    let cells = match &row.outcome {
        Ok(outcome) => cells(row.scenario, outcome),
        Err(reason) => vec![one_line(reason)],
    };
    format!("| {} | {} |", row.peer, cells.join(" | "))
}

/// The names of the columns, the peer's first.
pub(crate) fn columns(scenario: Scenario) -> Vec<&'static str> {
    let mut columns = vec!["", "delay, median", "p99", "max"];
    columns.extend(if scenario.drifts() {
        ["at first", "in the end", "breaks", "card dry / full"].as_slice()
    } else {
        ["missing", "longest", "breaks", "likeness"].as_slice()
    });
    columns.extend([
        "kB/s there + back",
        "processor, sending",
        "receiving",
        "first sound",
        "timer p99 / max",
    ]);
    columns
}

/// What stands in them, but for the name.
pub(crate) fn cells(scenario: Scenario, o: &Outcome) -> Vec<String> {
    let f = &o.figures;
    let ms = |value: f32| format!("{value:.2} ms");
    let mut cells = vec![ms(f.delay.median), ms(f.delay.p99), ms(f.delay.max)];
    if scenario.drifts() {
        let (dry, full) = o.card.unwrap_or_default();
        cells.extend([ms(f.first), ms(f.last), f.breaks.to_string(), format!("{dry} / {full}")]);
    } else {
        cells.extend([
            format!("{:.3} %", f.missing * 100.0),
            format!("{:.1} ms", f.longest_ms),
            f.breaks.to_string(),
            format!("{:.3}", f.likeness),
        ]);
    }
    cells.extend([
        o.wire.map_or_else(|| "–".into(), |[there, back]| format!("{there:.0} + {back:.0}")),
        format!("{:.1} %", o.cpu[0]),
        format!("{:.1} %", o.cpu[1]),
        o.startup.map_or_else(|| "–".into(), |ms| format!("{ms:.0} ms")),
        format!("{:.2} / {:.2} ms", o.timer.p99, o.timer.max),
    ]);
    cells
}

pub(crate) const CROWD: [&str; 7] = [
    "senders",
    "seconds",
    "receiver, cores",
    "senders together, cores",
    "not played as sent",
    "receiver’s threads",
    "timer p99 / max",
];

pub(crate) fn crowd_cells(c: &Crowd) -> Vec<String> {
    vec![
        c.senders.to_string(),
        c.seconds.to_string(),
        format!("{:.3}", c.receiver),
        format!("{:.3}", c.sender),
        format!("{:.1} ms", c.missing_ms),
        c.threads.to_string(),
        format!("{:.2} / {:.2} ms", c.timer.p99, c.timer.max),
    ]
}

/// Who is missing.
pub(crate) fn skipped(results: &Results) -> String {
    results.skipped.iter().map(|(peer, why)| format!("- {peer} was left out: {why}\n")).collect()
}

/// Text for a table's cell.
fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "/")
}
