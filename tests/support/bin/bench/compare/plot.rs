//! Plots as SVG that takes its colours from the page it stands in.

use std::fmt::Write;

/// A plot.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// One of its axes.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    /// In powers of ten, for what spans several of them.
    pub(crate) logarithmic: bool,
    /// The value that must be within it, such as zero.
    pub(crate) with: f64,
}

impl Axis {
    pub(crate) fn linear(label: &'static str) -> Self {
        Self { label, logarithmic: false, with: 0.0 }
    }

    pub(crate) fn logarithmic(label: &'static str, with: f64) -> Self {
        Self { label, logarithmic: true, with }
    }
}

/// Points that belong together.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Each point gets a dot.
    pub(crate) dots: bool,
}

/// As many colours as the page has classes for, `c0` …; further lines have them again, with dashes
/// (`dashed`) and then dots (`dotted`).
const COLOURS: usize = 8;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;

impl Plot<'_> {
    /// The picture and its legend; nothing without points.
    pub(crate) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|l| l.points.iter().copied());
        if points().next().is_none() {
            return String::new();
        }
        let x = Scale::new(&self.x, points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
        let y = Scale::new(&self.y, points().map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
        let title = escaped(self.title);
        let mut out = format!(
            "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{title}\">\n"
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, at) in x.ticks() {
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                bottom + 16.0
            );
        }
        for (value, at) in y.ticks() {
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        let middle = f64::midpoint(TOP, bottom);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 6.0,
            escaped(self.x.label),
            escaped(self.y.label)
        );
        for (k, line) in self.lines.iter().enumerate() {
            let class = class(k);
            let placed: Vec<String> = line
                .points
                .iter()
                .map(|(px, py)| format!("{:.1},{:.1}", x.place(*px), y.place(*py)))
                .collect();
            let _ =
                writeln!(out, "<polyline class=\"line {class}\" points=\"{}\"/>", placed.join(" "));
            for at in placed.iter().filter(|_| line.dots) {
                let (cx, cy) = at.split_once(',').unwrap_or_default();
                let _ = writeln!(
                    out,
                    "<circle class=\"dot {class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"/>"
                );
            }
        }
        out.push_str("</svg>\n<ul class=\"legend\">");
        for (k, line) in self.lines.iter().enumerate() {
            let _ = write!(out, "<li><i class=\"{}\"></i>{}</li>", class(k), escaped(&line.name));
        }
        out.push_str("</ul></figure>\n");
        out
    }
}

/// The look of line `k`.
fn class(k: usize) -> String {
    let stroke = ["", " dashed", " dotted"].get(k / COLOURS).unwrap_or(&" dotted");
    format!("c{}{stroke}", k % COLOURS)
}

/// From values to places.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .filter(|v| v.is_finite() && (!axis.logarithmic || *v > 0.0))
            .fold((axis.with, axis.with), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if axis.logarithmic {
            (low.log10().floor(), high.log10().ceil())
        } else {
            (low, high + (high - low) * 0.04)
        };
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, logarithmic: axis.logarithmic }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-300).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * share
    }

    fn ticks(&self) -> Vec<(String, f64)> {
        if self.logarithmic {
            let powers = self.low as i32..=self.high as i32;
            return powers.map(|p| 10_f64.powi(p)).map(|v| (label(v), self.place(v))).collect();
        }
        let step = round_step((self.high - self.low) / 6.0);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|k| k as f64 * step).map(|v| (label(v), self.place(v))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least so much.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|s| *s >= least).unwrap_or(least)
}

fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text for HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_and_places_lie_within_the_picture() {
        let values = [0.0, 37.0];
        let scale = Scale::new(&Axis::linear("ms"), values.into_iter(), LEFT, WIDTH - RIGHT);
        let ticks: Vec<String> = scale.ticks().into_iter().map(|(t, _)| t).collect();
        assert_eq!(ticks, ["0", "10", "20", "30"]);
        assert_eq!(scale.place(0.0), LEFT);
        assert!(scale.place(1e9) <= WIDTH - RIGHT);
        let values = [3.0, 900.0, 0.0];
        let scale = Scale::new(&Axis::logarithmic("ms", 1.0), values.into_iter(), 0.0, 300.0);
        assert_eq!(scale.ticks().len(), 4);
        assert_eq!(scale.place(10.0), 100.0);
        assert_eq!(scale.place(0.0), 0.0);
    }

    #[test]
    fn a_plot_without_points_is_none() {
        let line = Line { name: "a".into(), points: Vec::new(), dots: true };
        let plot =
            Plot { title: "t", x: Axis::linear("x"), y: Axis::linear("y"), lines: vec![line] };
        assert_eq!(plot.draw(), "");
    }
}
