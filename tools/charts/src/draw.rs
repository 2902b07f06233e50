//! Rows as SVG: blocks of bars in two columns, on a ground of their own, so that they read the same on light and dark pages.

use std::fmt::Write;

use crate::table::{Bar, Row};

const MARGIN: f64 = 20.0;
const HEADING: f64 = 44.0;
const COLUMNS: usize = 2;
const BLOCK_WIDTH: f64 = 470.0;
const BLOCK_HEADING: f64 = 34.0;
const BAR_STEP: f64 = 17.0;
const BAR_HEIGHT: f64 = 12.0;
const BLOCK_GAP: f64 = 20.0;
/// Left of the bars stand their backends; their numbers have a column of their own at the right, where no line crosses them.
const LABEL_WIDTH: f64 = 62.0;
const NUMBER_WIDTH: f64 = 56.0;
const BARS_WIDTH: f64 = BLOCK_WIDTH - LABEL_WIDTH - NUMBER_WIDTH - MARGIN;

/// Beyond this, the shortest bar would hardly be seen.
const LINEAR_RANGE_MAX: f64 = 30.0;

/// From numbers to lengths.
struct Scale {
    /// Where a logarithmic scale begins; `None`: it is linear, and begins at 0.
    start: Option<f64>,
    end: f64,
}

impl Scale {
    fn of(row: &Row) -> Scale {
        let values = || row.bars.iter().map(|bar| bar.median).filter(|value| *value > 0.0);
        let least = values().fold(f64::INFINITY, f64::min);
        let end = row.bars.iter().map(|bar| bar.most).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        // A decade below the shortest bar, so that it can be seen.
        let start =
            (end / least > LINEAR_RANGE_MAX && least.is_finite()).then(|| 10f64.powf((least / 2.0).log10().floor()));
        Scale { start, end }
    }

    fn length(&self, value: f64) -> f64 {
        let part = match self.start {
            Some(start) if value <= start => 0.0,
            Some(start) => (value / start).log10() / (self.end / start).log10(),
            None => value / self.end,
        };
        BARS_WIDTH * part.clamp(0.0, 1.0)
    }
}

fn colour(backend: &str) -> &'static str {
    match backend {
        "batpak" => "#1f6feb",
        "raw" => "#9aa0a6",
        "sqlite" => "#c98a3c",
        "lmdb" => "#5f9e6e",
        "rocksdb" => "#b0687c",
        _ => "#777777",
    }
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, content: &str) {
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" {style}>{}</text>"#, escape(content));
}

fn draw_bar(svg: &mut String, x: f64, y: f64, scale: &Scale, bar: &Bar) {
    let (length, middle) = (scale.length(bar.median), y + BAR_HEIGHT / 2.0);
    let weight = if bar.backend == "batpak" { r#" font-weight="600""# } else { "" };
    text(svg, x - 6.0, y + 10.0, &format!(r#"font-size="11" text-anchor="end"{weight}"#), &bar.backend);
    let _ = writeln!(
        svg,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{BAR_HEIGHT}" fill="{}"/>"#,
        length.max(1.0),
        colour(&bar.backend)
    );
    let (from, to) = (x + scale.length(bar.least), x + scale.length(bar.most));
    if to - from >= 2.0 {
        let _ = writeln!(
            svg,
            r##"<line x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}" stroke="#24292f" stroke-width="1.2"/>"##
        );
    }
    let right = x + BARS_WIDTH + NUMBER_WIDTH;
    text(svg, right, y + 10.0, &format!(r#"font-size="11" text-anchor="end"{weight}"#), &number(bar.median));
}

fn draw_row(svg: &mut String, x: f64, y: f64, row: &Row) {
    let scale = Scale::of(row);
    let budget = row.budget.filter(|budget| *budget <= scale.end && scale.start.is_none_or(|start| *budget > start));
    let mut about = format!("{}, {} is better", row.unit, if row.is_higher_better { "higher" } else { "lower" });
    if scale.start.is_some() {
        about += ", logarithmic";
    }
    if let Some(value) = row.budget {
        let _ = write!(about, "; budget {}{}", number(value), if budget.is_some() { " (dashed)" } else { "" });
    }
    text(svg, x, y + 12.0, r#"font-size="13" font-weight="600""#, &row.name);
    text(svg, x, y + 27.0, r##"font-size="11" fill="#57606a""##, &about);
    let (left, top) = (x + LABEL_WIDTH, y + BLOCK_HEADING);
    for (bar, at) in row.bars.iter().zip(0u32..) {
        draw_bar(svg, left, top + BAR_STEP * f64::from(at), &scale, bar);
    }
    if let Some(value) = budget {
        let at = left + scale.length(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" y1="{:.1}" x2="{at:.1}" y2="{:.1}" stroke="#cf222e" stroke-width="1" stroke-dasharray="3 2"/>"##,
            top - 3.0,
            top + height(row) - BLOCK_HEADING
        );
    }
}

fn height(row: &Row) -> f64 {
    BLOCK_HEADING + BAR_STEP * row.bars.len() as f64
}

/// One file: the rows of a group, line by line.
pub fn chart(group: &str, rows: &[&Row]) -> String {
    let mut body = String::new();
    let mut y = HEADING + MARGIN;
    for line in rows.chunks(COLUMNS) {
        for (row, at) in line.iter().zip(0u32..) {
            draw_row(&mut body, MARGIN + (BLOCK_WIDTH + MARGIN) * f64::from(at), y, row);
        }
        y += line.iter().map(|row| height(row)).fold(0.0, f64::max) + BLOCK_GAP;
    }
    let width = MARGIN + (BLOCK_WIDTH + MARGIN) * COLUMNS as f64;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" font-family="system-ui, sans-serif" fill="#24292f">"##
    );
    let _ = writeln!(svg, r##"<rect width="{width}" height="{y}" rx="6" fill="#ffffff" stroke="#d0d7de"/>"##);
    text(&mut svg, MARGIN, MARGIN + 14.0, r#"font-size="17" font-weight="600""#, group);
    text(
        &mut svg,
        MARGIN,
        MARGIN + 32.0,
        r##"font-size="11" fill="#57606a""##,
        "bars are medians, lines reach from the least to the most; raw is what the machine does with nothing around it",
    );
    svg + &body + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(medians: &[f64]) -> Row {
        let bar = |median: &f64| Bar { backend: "raw".into(), least: *median, median: *median, most: *median };
        Row {
            name: "a < b".into(),
            unit: "ms".into(),
            group: "g".into(),
            is_higher_better: false,
            budget: None,
            bars: medians.iter().map(bar).collect(),
        }
    }

    #[test]
    fn scales_are_logarithmic_only_where_bars_would_vanish() {
        assert!(Scale::of(&row(&[1.0, 20.0])).start.is_none());
        let scale = Scale::of(&row(&[0.09, 600.0]));
        assert_eq!(scale.start, Some(0.01));
        assert!(scale.length(0.09) > 10.0);
        assert!((scale.length(600.0) - BARS_WIDTH).abs() < 1e-9);
    }

    #[test]
    fn rows_of_zeros_are_drawn() {
        let svg = chart("g", &[&row(&[0.0])]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn names_are_escaped() {
        assert!(chart("g", &[&row(&[1.0])]).contains("a &lt; b"));
    }
}
