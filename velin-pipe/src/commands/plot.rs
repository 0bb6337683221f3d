//! Curves of characters, for any terminal.

/// Lines of a plot.
const HEIGHT: usize = 10;
/// Columns left of it.
const MARGIN: usize = 7;

/// One value for each second.
pub(super) struct Curve {
    /// What it is drawn with.
    pub(super) mark: char,
    /// Not negative.
    pub(super) values: Vec<f64>,
}

/// Curves from 0 up to a round number above their maximum, over a time axis; later ones hide
/// earlier ones. No line is longer than `width`.
pub(super) fn plot(curves: &[Curve], width: usize) -> String {
    let all = curves.iter().flat_map(|curve| &curve.values);
    let top = round_up(all.copied().fold(0.0, f64::max));
    let seconds = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0);
    let mut rows = vec![vec![' '; columns(width)]; HEIGHT];
    for curve in curves {
        for (column, value) in resample(&curve.values, width).into_iter().enumerate() {
            let row = (value / top * HEIGHT as f64) as usize;
            rows[HEIGHT - 1 - row.min(HEIGHT - 1)][column] = curve.mark;
        }
    }
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let label = match i {
            0 => number(top),
            _ if i == HEIGHT / 2 => number(top / 2.0),
            _ => String::new(),
        };
        let row: String = row.iter().collect();
        text += format!("{label:>MARGIN$} |{row}").trim_end();
        text.push('\n');
    }
    let axis = "-".repeat(columns(width));
    let end = format!("{seconds} s");
    let gap = columns(width).saturating_sub(end.len() + 1);
    text + &format!("{:>MARGIN$} +{axis}\n{:>MARGIN$}  0{:gap$}{end}\n", 0, "", "")
}

/// One line that is darker where a value is higher, and a word about the highest.
pub(super) fn strip(title: &str, values: &[f64], width: usize) -> String {
    const MARKS: [char; 8] = [' ', '.', ':', '-', '=', '+', '#', '@'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let line: String = resample(values, width)
        .into_iter()
        .map(|value| match (value / most * 7.0).ceil() {
            // Nothing at all, or nothing anywhere.
            level if level.is_nan() => ' ',
            level => MARKS[(level as usize).min(7)],
        })
        .collect();
    let line = format!("{:>MARGIN$} |{line}|\n", "");
    format!("{line}{:>MARGIN$}  {title}; @ is {most:.1} in a second\n", "")
}

/// How many columns a plot has.
fn columns(width: usize) -> usize {
    width.saturating_sub(MARGIN + 3).max(1)
}

/// The highest value of the seconds in each column.
fn resample(values: &[f64], width: usize) -> Vec<f64> {
    let columns = columns(width);
    let highest = |column: usize| {
        let from = column * values.len() / columns;
        let to = ((column + 1) * values.len() / columns).max(from + 1);
        values.iter().take(to).skip(from).copied().fold(0.0, f64::max)
    };
    (0..columns).map(highest).collect()
}

/// 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // A little room, so that the highest value is not on the edge.
    steps.into_iter().find(|step| *step > value * 1.000_1).unwrap_or(power * 20.0)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_values_where_they_belong() {
        let ramp = Curve { mark: '*', values: (0..20).map(f64::from).collect() };
        let flat = Curve { mark: '-', values: vec![10.0; 20] };
        let expected = "     \
     20 |                                    ****
        |                                ****
        |                            ****
        |                        ****
        |--------------------****----------------
     10 |                ****
        |            ****
        |        ****
        |    ****
        |****
      0 +----------------------------------------
         0                                   20 s
";
        assert_eq!(plot(&[flat, ramp], 50).trim_start(), expected.trim_start());
    }

    #[test]
    fn any_number_of_seconds_fits_any_width() {
        for width in [20, 40, 79, 200] {
            for seconds in [0, 1, 2, 30, 71, 1_000] {
                let values = vec![3.0; seconds];
                let text = plot(&[Curve { mark: '*', values: values.clone() }], width);
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(longest <= Some(width), "{width} {seconds}\n{text}");
                let strip = strip("x", &values, width);
                assert!(strip.lines().next().map(str::len) <= Some(width), "{strip}");
            }
        }
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (value, top) in [(0.0, 1.0), (0.7, 1.0), (1.0, 2.0), (34.0, 50.0), (99.0, 100.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
        assert_eq!(round_up(f64::NAN), 1.0);
    }
}
