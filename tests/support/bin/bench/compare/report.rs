//! The results as a page of HTML that needs nothing but itself.

use std::fmt::Write;

use super::plot::{Axis, Line, Plot, escaped};
use super::result::{Outcome, Results, Row};
use super::scenario::Scenario;
use super::table;

/// The page.
pub(crate) fn html(results: &Results) -> String {
    let mut out = String::from(HEAD);
    for line in &results.setting {
        let _ = writeln!(out, "<p class=\"setting\">{}</p>", escaped(line));
    }
    if results.short {
        out.push_str(
            "<p class=\"note\">A short run: good for seeing that all works, not for figures.</p>\n",
        );
    }
    out.push_str(LEGEND);
    for scenario in Scenario::ALL {
        section(&mut out, results, scenario);
    }
    crowd(&mut out, results);
    if !results.skipped.is_empty() {
        out.push_str("<h2>Left out</h2>\n<ul>\n");
        for (peer, why) in &results.skipped {
            let _ = writeln!(out, "<li>{}: {}</li>", escaped(peer), escaped(why));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>Velin beside others</title>
<style>
:root { color-scheme: light dark; --ink: #1b1d21; --paper: #fff; --faint: #6b7078; --rule: #d9dce1; --own: #eef4fd;
  --c0: #0b62d6; --c1: #c2410c; --c2: #15803d; --c3: #7e22ce; --c4: #b45309; --c5: #0e7490; --c6: #be185d; --c7: #4b5563 }
@media (prefers-color-scheme: dark) {
:root { --ink: #e6e8eb; --paper: #14161a; --faint: #9aa1ab; --rule: #343941; --own: #1a2536;
  --c0: #6ea8ff; --c1: #fb923c; --c2: #4ade80; --c3: #c084fc; --c4: #fbbf24; --c5: #22d3ee; --c6: #f472b6; --c7: #9ca3af } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2em }
.setting { margin: 0; color: var(--faint) } .note { font-weight: 600 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: 4px 9px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap }
th { vertical-align: bottom; white-space: normal } th:first-child, td:first-child { text-align: left }
tr.own td { background: var(--own) } td.why { text-align: left; white-space: normal; color: var(--faint) }
figure { margin: 18px 0 } figcaption { font-weight: 600 } svg { width: 100%; height: auto; max-width: 760px }
svg text { fill: var(--faint); font-size: 11px } .grid { stroke: var(--rule); stroke-width: 1 }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 0; padding: 0; font-size: 13px }
.legend i { display: inline-block; width: 12px; height: 3px; margin-right: 6px; vertical-align: middle; background: currentColor }
.line.c0, .dot.c0 { stroke: var(--c0) } .line.c1, .dot.c1 { stroke: var(--c1) }
.line.c2, .dot.c2 { stroke: var(--c2) } .line.c3, .dot.c3 { stroke: var(--c3) }
.line.c4, .dot.c4 { stroke: var(--c4) } .line.c5, .dot.c5 { stroke: var(--c5) }
.line.c6, .dot.c6 { stroke: var(--c6) } .line.c7, .dot.c7 { stroke: var(--c7) } .dot { fill: var(--paper) }
.line.dashed { stroke-dasharray: 7 4 } .line.dotted { stroke-dasharray: 2 3 }
.legend i.dashed { background: linear-gradient(90deg, currentColor 40%, transparent 40% 60%, currentColor 60%) }
.legend i.dotted { background: repeating-linear-gradient(90deg, currentColor 0 2px, transparent 2px 4px) }
i.c0 { color: var(--c0) } i.c1 { color: var(--c1) } i.c2 { color: var(--c2) } i.c3 { color: var(--c3) }
i.c4 { color: var(--c4) } i.c5 { color: var(--c5) } i.c6 { color: var(--c6) } i.c7 { color: var(--c7) }
</style>
</head>
<body>
<main>
<h1>Velin beside others</h1>
"#;

const LEGEND: &str = "<p>Printed by <code>make bench</code>; <code>docs/performance.md</code> says what is \
measured and how, and what these figures do not say. <b>Delay</b>: from the capture of a sample to the moment it \
comes out, with the sound card’s chunk of 2.5 ms (JACK: one period) in it. <b>Missing</b>: the share of the \
source that never came out as it was, concealed or not. <b>Breaks</b>: how often what came out was not what follows. \
<b>Likeness</b>: correlation with the source, 1 is a copy. <b>Timer</b>: how late a thread woke that only sleeps, in the \
same seconds: a tail below that is the machine’s.</p>\n";

fn section(out: &mut String, results: &Results, scenario: Scenario) {
    let rows: Vec<&Row> = results.rows.iter().filter(|r| r.scenario == scenario).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>{}</h2>", escaped(scenario.title()));
    let head = table::columns(scenario);
    open_table(out, &head);
    for row in &rows {
        let own = if row.peer.starts_with("Velin") { " class=\"own\"" } else { "" };
        let _ = write!(out, "<tr{own}><td>{}</td>", escaped(&row.peer));
        match &row.outcome {
            Ok(outcome) => write_cells(out, &table::cells(scenario, outcome)),
            Err(why) => {
                let _ = write!(
                    out,
                    "<td class=\"why\" colspan=\"{}\">{}</td>",
                    head.len() - 1,
                    escaped(why)
                );
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");

    let outcomes: Vec<(&str, &Outcome)> =
        rows.iter().filter_map(|r| Some((r.peer.as_str(), r.outcome.as_ref().ok()?))).collect();
    out.push_str(&course(scenario, &outcomes).draw());
    match scenario {
        Scenario::Wired => out.push_str(&distribution(&outcomes).draw()),
        Scenario::Loss10 => out.push_str(&missing_against_loss(results).draw()),
        Scenario::Fast => {
            out.push_str(&lock(results, "The receiver’s buffer as it sees it", "ms", |t| {
                [("delay", t.1), ("target", t.2)].to_vec()
            }));
            out.push_str(&lock(results, "The drift as it sees it", "ppm", |t| {
                vec![("drift", t.3)]
            }));
        }
        _ => {}
    }
}

fn course<'a>(scenario: Scenario, outcomes: &[(&str, &Outcome)]) -> Plot<'a> {
    let lines = outcomes.iter().map(|(peer, o)| Line {
        name: (*peer).to_owned(),
        points: o
            .figures
            .course
            .iter()
            .map(|(t, median, _)| (f64::from(*t), f64::from(*median)))
            .collect(),
        dots: false,
    });
    let y = match scenario.drifts() {
        true => Axis::linear("delay, ms"),
        false => Axis::logarithmic("delay, ms", 10.0),
    };
    Plot { title: "Delay over time", x: Axis::linear("seconds"), y, lines: lines.collect() }
}

fn distribution<'a>(outcomes: &[(&str, &Outcome)]) -> Plot<'a> {
    let lines = outcomes.iter().map(|(peer, o)| Line {
        name: (*peer).to_owned(),
        points: o
            .figures
            .spread
            .iter()
            .map(|(q, ms)| (f64::from(*ms), f64::from(*q) * 100.0))
            .collect(),
        dots: false,
    });
    Plot {
        title: "Distribution of the delay",
        x: Axis::logarithmic("delay, ms", 10.0),
        y: Axis::linear("per cent of the frames at most so late"),
        lines: lines.collect(),
    }
}

/// What is less than this, in per cent, is drawn as this.
const LEAST: f64 = 0.001;

fn missing_against_loss<'a>(results: &Results) -> Plot<'a> {
    let mut lines: Vec<Line> = Vec::new();
    for row in &results.rows {
        let (Some(loss), Ok(outcome)) = (row.scenario.random_loss(), &row.outcome) else {
            continue;
        };
        let point = (loss * 100.0, (outcome.figures.missing * 100.0).max(LEAST));
        match lines.iter_mut().find(|l| l.name == row.peer) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: row.peer.clone(), points: vec![point], dots: true }),
        }
    }
    // Who was not exposed to loss says nothing here.
    lines.retain(|l| l.points.iter().any(|(loss, _)| *loss > 0.0));
    Plot {
        title: "Missing against random loss (0.001 stands for less)",
        x: Axis::linear("packets lost, per cent"),
        y: Axis::logarithmic("missing, per cent", LEAST),
        lines,
    }
}

/// What Velin's receivers told of themselves while the source's clock was wrong.
fn lock(
    results: &Results,
    title: &str,
    unit: &'static str,
    pick: impl Fn(&(f32, f32, f32, f32)) -> Vec<(&'static str, f32)>,
) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for row in results.rows.iter().filter(|r| r.scenario.drifts()) {
        let Ok(outcome) = &row.outcome else { continue };
        for told in &outcome.told {
            for (what, value) in pick(told) {
                let name = format!("{what}, {:+} ppm", row.scenario.ppm());
                let point = (f64::from(told.0), f64::from(value));
                match lines.iter_mut().find(|l| l.name == name) {
                    Some(line) => line.points.push(point),
                    None => lines.push(Line { name, points: vec![point], dots: false }),
                }
            }
        }
    }
    Plot { title, x: Axis::linear("seconds"), y: Axis::linear(unit), lines }.draw()
}

fn crowd(out: &mut String, results: &Results) {
    if results.crowd.is_empty() {
        return;
    }
    out.push_str("<h2>Many senders, one receiver</h2>\n<p>Stereo, 5 ms packets, every one encrypted, followed and mixed.</p>\n");
    open_table(out, &table::CROWD);
    for c in &results.crowd {
        out.push_str("<tr class=\"own\">");
        write_cells(out, &table::crowd_cells(c));
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    let line = |name: &str, pick: fn(&super::result::Crowd) -> f64| Line {
        name: name.to_owned(),
        points: results.crowd.iter().map(|c| (c.senders as f64, pick(c))).collect(),
        dots: true,
    };
    let plot = Plot {
        title: "Processor against streams",
        x: Axis::linear("senders"),
        y: Axis::linear("cores"),
        lines: vec![line("receiver", |c| c.receiver), line("all senders together", |c| c.sender)],
    };
    out.push_str(&plot.draw());
}

fn open_table(out: &mut String, head: &[&str]) {
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for name in head {
        let _ = write!(out, "<th>{}</th>", escaped(name));
    }
    out.push_str("</tr>\n");
}

fn write_cells(out: &mut String, cells: &[String]) {
    for cell in cells {
        let _ = write!(out, "<td>{}</td>", escaped(cell));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::Figures;
    use crate::compare::result::Crowd;
    use crate::stats::Summary;

    fn results() -> Results {
        let summary = Summary { median: 6.0, p99: 7.0, max: 9.0 };
        let outcome = |missing: f64| Outcome {
            figures: Figures {
                delay: summary,
                first: 6.0,
                last: 7.0,
                missing,
                longest_ms: 2.5,
                breaks: 3,
                likeness: 0.99,
                course: (0..160).map(|k| (k as f32 / 10.0, 6.0 + (k % 7) as f32, 9.0)).collect(),
                spread: (0..=100).map(|k| (k as f32 / 100.0, 5.0 + k as f32 / 50.0)).collect(),
            },
            cpu: [1.5, 2.5],
            wire: Some([250.0, 1.0]),
            startup: Some(40.0),
            timer: summary,
            card: Some((1, 2)),
            told: (0..150).map(|k| (k as f32 / 5.0, 7.0, 7.5, 499.0)).collect(),
        };
        let rows = Scenario::ALL.into_iter().flat_map(|scenario| {
            [
                ("Velin, default", Ok(outcome(0.0))),
                ("Others & <sons>", Ok(outcome(0.05))),
                ("Nobody", Err("printed: \"a < b\" & died".to_owned())),
            ]
            .map(|(peer, outcome)| Row { scenario, peer: peer.to_owned(), outcome })
        });
        let crowd = Crowd {
            senders: 128,
            seconds: 300,
            receiver: 0.9,
            sender: 0.8,
            missing_ms: 0.0,
            threads: 6,
            timer: summary,
        };
        Results {
            setting: vec!["A machine".into()],
            short: true,
            rows: rows.collect(),
            crowd: vec![crowd],
            skipped: vec![("JackTrip".into(), "no jackd: package jackd2".into())],
        }
    }

    /// Checks that every element that begins ends in its place, and gives all names.
    fn elements(page: &str) -> Vec<String> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let body = page.split_once("</style>").expect("a style").1;
        let body = format!("<style>{body}").replacen("<style>", "", 1);
        for tag in body.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("an end of the tag");
            assert!(!text.contains('>'), "a loose > in {text}");
            let name = tag.split([' ', '/']).find(|n| !n.is_empty()).unwrap().to_owned();
            if tag.starts_with('/') {
                if !["head", "html"].contains(&name.as_str()) {
                    assert_eq!(open.pop().as_ref(), Some(&name), "at </{name}>");
                }
            } else if !tag.ends_with('/') {
                open.push(name.clone());
            }
            all.push(name);
        }
        assert!(open.is_empty(), "{open:?} never end");
        all
    }

    #[test]
    fn the_page_is_well_formed_small_and_needs_nothing_else() {
        let page = html(&results());
        let names = elements(&page);
        // One course for each scenario, a distribution, missing, two of the lock, the crowd.
        assert_eq!(names.iter().filter(|n| *n == "svg").count(), 2 * (8 + 1 + 1 + 2 + 1));
        assert!(page.len() < 500_000, "{}", page.len());
        for elsewhere in ["http:", "https:", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert!(
            page.contains("Others &amp; &lt;sons&gt;") && page.contains("&quot;a &lt; b&quot;")
        );
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(!page.contains("NaN") && !page.contains("inf,"));
    }

    #[test]
    fn a_table_has_as_many_cells_as_columns() {
        let results = results();
        for row in &results.rows {
            let Ok(outcome) = &row.outcome else { continue };
            let cells = table::cells(row.scenario, outcome).len();
            assert_eq!(cells + 1, table::columns(row.scenario).len());
        }
        assert_eq!(table::crowd_cells(&results.crowd[0]).len(), table::CROWD.len());
        assert_eq!(table::row(&results.rows[2]).lines().count(), 1);
        assert!(table::skipped(&results).contains("jackd2"));
    }

    #[test]
    fn nothing_measured_is_a_page_all_the_same() {
        elements(&html(&Results::default()));
    }
}
