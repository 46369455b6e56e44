//! What was measured, for people: lines, tables, a chapter of the documentation, and pictures.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use plotters::{
    coord::{
        Shift,
        ranged1d::{Ranged, ValueFormatter},
    },
    prelude::*,
};

use crate::{
    growth::what_is_counted,
    measure::{Curve, Results, Row, Unit, median},
};

const HEADINGS: [&str; 9] = [
    "work",
    "beside",
    "ours: min / median / max",
    "theirs: min / median / max",
    "ratio",
    "goal",
    "rounds",
    "reached",
    "date",
];

/// Where there is nothing to say.
const NOTHING: &str = "–";

/// One line, for those who watch.
pub fn line(row: &Row) -> String {
    let beside = if row.beside.is_empty() { String::new() } else { format!(", beside {}", row.beside) };
    let mut parts = vec![format!("ours {}", row.unit.show(median(&row.ours)))];
    if let Some(ratio) = row.ratio() {
        parts.push(format!("theirs {}", row.unit.show(median(&row.theirs))));
        parts.push(format!("ratio {}", two_digits(ratio)));
    }
    if let Some(reached) = row.reached() {
        parts.push(format!("goal {}: {}", goal(row), if reached { "reached" } else { "NOT REACHED" }));
    }
    format!("{}{beside}: {}", row.name, parts.join(", "))
}

/// All rows, for a terminal.
pub fn table(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADINGS);
    table.add_rows(results.rows.iter().map(cells));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// What follows this line in the document is ours.
const MARK: &str = "<!-- What follows is made of the results by `make bench-report`. -->\n";

pub fn write(results: &Results, document: &Path) {
    let text = std::fs::read_to_string(document).unwrap();
    let (by_hand, _) = text.split_once(MARK).unwrap_or_else(|| panic!("{} lacks the line {MARK}", document.display()));
    std::fs::write(document, format!("{by_hand}{MARK}\n{}", markdown(results))).unwrap();
}

/// The generated part of `docs/performance.md`.
fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let mut chapter = |heading: &str, body: String| text.push_str(&format!("## {heading}\n\n{body}\n"));
    if !results.machine.is_empty() {
        chapter("Measured on", results.machine.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect());
    }
    if !results.rows.is_empty() {
        chapter("Results", markdown_table(&HEADINGS, results.rows.iter().map(cells)));
    }
    if !results.traces.is_empty() {
        chapter("What a request starts", traces(results));
    }
    if !results.curves.is_empty() {
        let parts: Vec<String> = pictures(results).iter().map(|picture| growth(results, picture)).collect();
        chapter("Growth", parts.join("\n"));
    }
    text.trim_end().to_owned() + "\n"
}

/// What stands in a row, under [`HEADINGS`].
fn cells(row: &Row) -> Vec<String> {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    vec![
        row.name.clone(),
        or_nothing((!row.beside.is_empty()).then(|| row.beside.clone())),
        spread(row.unit, &row.ours),
        spread(row.unit, &row.theirs),
        or_nothing(row.ratio().map(two_digits)),
        goal(row),
        row.ours.len().to_string(),
        or_nothing(row.reached().map(|reached| if reached { "yes" } else { "no" }.to_owned())),
        or_nothing((!row.date.is_empty()).then(|| row.date.clone())),
    ]
}

fn spread(unit: Unit, values: &[f64]) -> String {
    if values.is_empty() {
        return NOTHING.to_owned();
    }
    let (least, most) = range(values.iter().copied());
    format!("{} / {} / {}", unit.show(least), unit.show(median(values)), unit.show(most))
}

fn goal(row: &Row) -> String {
    let Some(goal) = row.goal else { return NOTHING.to_owned() };
    let sign = if row.more_is_better() { "≥" } else { "≤" };
    if row.theirs.is_empty() { format!("{sign} {}", row.unit.show(goal)) } else { format!("{sign} {goal}") }
}

/// A number with two significant digits.
fn two_digits(value: f64) -> String {
    // Rounded first, since that may carry: 0.0996 is 0.10.
    let rounded = format!("{value:.1e}");
    let exponent = rounded.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match (exponent, rounded.parse::<f64>()) {
        (Some(exponent), Ok(rounded)) => format!("{rounded:.digits$}", digits = (1 - exponent).max(0) as usize),
        _ => rounded,
    }
}

/// A whole number with commas.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

fn markdown_table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let plain = |cell: String| cell.replace('|', "\\|");
    let head = line(headings.iter().map(|heading| (*heading).to_owned()).collect());
    let rule = format!("|{}\n", "---|".repeat(headings.len()));
    head + &rule + &rows.map(|cells| line(cells.into_iter().map(plain).collect())).collect::<String>()
}

fn traces(results: &Results) -> String {
    let rows = results.traces.iter().map(|trace| {
        let calls: Vec<String> = trace.calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let calls = if calls.is_empty() { NOTHING.to_owned() } else { calls.join(", ") };
        vec![trace.request.clone(), trace.programs.to_string(), calls]
    });
    markdown_table(&["request", "programs started", "system calls"], rows)
}

/// The picture of some curves, and their points.
fn growth(results: &Results, picture: &str) -> String {
    let curves = curves_of(results, picture);
    let mut sizes: Vec<f64> = curves.iter().flat_map(|curve| &curve.points).map(|(size, _)| *size).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let headings: Vec<String> =
        [what_is_counted(picture).to_owned()].into_iter().chain(sizes.iter().map(|size| count(*size))).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let rows = curves.iter().map(|curve| {
        let at = |size: &f64| curve.points.iter().find(|point| point.0 == *size);
        let cell = |size: &f64| at(size).map_or_else(|| NOTHING.to_owned(), |point| Unit::Seconds.show(point.1));
        [curve.name.clone()].into_iter().chain(sizes.iter().map(cell)).collect()
    });
    let table = markdown_table(&headings, rows);
    format!("![{picture}](performance/{})\n\n{table}", file_name(picture))
}

/// Names of the pictures, in their order.
fn pictures(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for curve in &results.curves {
        if !names.contains(&curve.picture.as_str()) {
            names.push(&curve.picture);
        }
    }
    names
}

fn curves_of<'a>(results: &'a Results, picture: &str) -> Vec<&'a Curve> {
    results.curves.iter().filter(|curve| curve.picture == picture).collect()
}

fn file_name(picture: &str) -> String {
    let lower = picture.to_lowercase();
    let words: Vec<&str> = lower.split(|it: char| !it.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}.svg", words.join("-"))
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// Width and height of a picture, and how much of the width is for the curves; the rest is for their names.
const SIZE: (u32, u32) = (880, 460);
const PLANE_WIDTH: u32 = 640;

/// Colours that stay apart for those who see few of them (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One SVG for each picture.
pub fn plot(results: &Results, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for picture in pictures(results) {
        draw(picture, &curves_of(results, picture), &folder.join(file_name(picture)));
    }
}

fn draw(picture: &str, curves: &[&Curve], path: &Path) {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    // Else it could not be read on a dark page.
    root.fill(&WHITE).unwrap();
    let (plane, names) = root.titled(picture, font(20)).unwrap().split_horizontally(PLANE_WIDTH);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let (x, y) = (range(points().map(|point| point.0)), range(points().map(|point| point.1 * 1e3)));
    let mut builder = ChartBuilder::on(&plane);
    builder.margin(12).x_label_area_size(44).y_label_area_size(64);
    let label = what_is_counted(picture);
    if x.1 > 20.0 * x.0 {
        // A little beyond, so that rounding takes away no label at the ends.
        let x = (x.0 * 0.8..x.1 * 1.25).log_scale();
        let (low, high) = decades(y);
        let chart = builder.build_cartesian_2d(x, (low * 0.99..high * 1.01).log_scale());
        draw_curves(chart.unwrap(), curves, label, 10);
    } else {
        draw_curves(builder.build_cartesian_2d(0.0..x.1 * 1.05, 0.0..y.1 * 1.1).unwrap(), curves, label, 0);
    }
    draw_names(&names, curves);
    root.present().unwrap();
}

/// Powers of ten around a range, two at least: with one, what hardly changes would look steep.
fn decades((least, most): (f64, f64)) -> (f64, f64) {
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    (10f64.powf(low), 10f64.powf(high.max(low + 2.0)))
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

fn draw_curves<X, Y>(
    mut chart: ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    curves: &[&Curve],
    label: &str,
    fine_lines: usize,
) where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(label).y_desc("milliseconds").axis_desc_style(font(15)).label_style(font(13));
    mesh.max_light_lines(fine_lines)
        .x_label_formatter(&|value| count(*value))
        .y_label_formatter(&|value| short(*value));
    mesh.light_line_style(RGBColor(235, 235, 235)).bold_line_style(RGBColor(205, 205, 205)).draw().unwrap();
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> = curve.points.iter().map(|(size, seconds)| (*size, seconds * 1e3)).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2))).unwrap();
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled()))).unwrap();
    }
}

/// Beside the plane, where no curve can run through them.
fn draw_names(area: &Area<'_>, curves: &[&Curve]) {
    for (at, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = 24 + 24 * at as i32;
        area.draw(&PathElement::new([(0, y), (24, y)], colour.stroke_width(2))).unwrap();
        area.draw(&Circle::new((12, y), 4, colour.filled())).unwrap();
        area.draw(&Text::new(curve.name.clone(), (32, y - 7), font(14))).unwrap();
    }
}

/// A label of an axis without the dust of floating point numbers.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value >= 1000.0 { count(value) } else { text.to_owned() }
}
