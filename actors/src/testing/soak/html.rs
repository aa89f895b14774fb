//! The report as a page: the table, distributions and one pair's timeline as inline SVG, nothing from elsewhere. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::media::{MEDIA, MEDIA_COUNT};
use super::report::{Report, Row, Timeline};

/// A plot's width and height in pixels.
const SIZE: (f64, f64) = (860.0, 220.0);
/// Room for what stands beside the axes.
const MARGIN: f64 = 60.0;
/// The decades that times are drawn over, in milliseconds: from 1 ms to 100 s.
const DECADES: i32 = 5;
/// Steps in a decade of a distribution.
const STEPS: usize = 10;
/// One colour for each transport.
const COLOURS: [&str; MEDIA_COUNT] = ["#7b4ea3", "#d1662b", "#2b7a4b", "#2b66b1"];

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Bowline soak</title><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .6em;border-bottom:1px solid #ddd}\
.met{color:#1c6b38}.not{color:#b3261e;font-weight:600}.none{color:#777}svg text{font:12px system-ui,sans-serif}\
</style></head><body>";

/// The page.
pub fn page(report: &Report, command: &str) -> String {
    let mut page = String::from(HEAD);
    let Report { hours, failures, seed, nodes, .. } = report;
    let sent = report.totals.sent;
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<h1>{hours} hours, {failures} failures, {nodes} nodes</h1><p>Seed {seed}; {sent} messages. Again: <code>{}</code></p>",
        escaped(command)
    );
    page.push_str("<table><tr><th>measure</th><th>earlier system</th><th>to reach</th><th>here</th></tr>");
    report.rows().iter().for_each(|row| table_row(&mut page, row));
    page.push_str("</table>");
    let plots = &report.plots;
    distribution(
        &mut page,
        "Detection: from the first send into a fault to the link called unusable",
        &[("in flight", "#b3261e", &plots.detection_in_flight), ("idle", "#2b66b1", &plots.detection_idle)],
    );
    distribution(
        &mut page,
        "Failover: from a failure of links to the next delivery",
        &[("all kinds", "#2b7a4b", &plots.failover)],
    );
    timeline(&mut page, &plots.timeline);
    kinds(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn table_row(page: &mut String, row: &Row) {
    let class = match row.met {
        Some(true) => "met",
        Some(false) => "not",
        None => "none",
    };
    let cells = [row.measure, row.earlier, row.target].map(escaped).join("</td><td>");
    let _ = write!(page, "<tr><td>{cells}</td><td class=\"{class}\">{}</td></tr>", escaped(&row.here));
}

/// Where a time stands between the ends of the axis, 0 to 1.
fn place(ms: f64) -> f64 {
    (ms.max(1.0).log10() / f64::from(DECADES)).clamp(0.0, 1.0)
}

fn open(page: &mut String, title: &str) {
    let (width, height) = SIZE;
    let _ = write!(page, "<h2>{}</h2><svg viewBox=\"0 0 {width} {height}\" role=\"img\">", escaped(title));
}

fn line(page: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = write!(page, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>");
}

fn words(page: &mut String, at: (f64, f64), colour: &str, words: &str) {
    let (x, y) = at;
    let _ = write!(page, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>", escaped(words));
}

/// Shares of all values in steps of a logarithmic scale, one above the other.
fn distribution(page: &mut String, title: &str, sets: &[(&str, &str, &[f64])]) {
    open(page, title);
    let (width, height) = SIZE;
    let (bottom, across, up) = (height - 30.0, width - 2.0 * MARGIN, height - 50.0);
    for decade in 0..=DECADES {
        let x = MARGIN + across * f64::from(decade) / f64::from(DECADES);
        line(page, (x, 15.0), (x, bottom), "#eee");
        let label = ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"][decade as usize];
        words(page, (x - 14.0, height - 12.0), "#555", label);
    }
    line(page, (MARGIN, bottom), (width - MARGIN, bottom), "#999");
    for (row, (name, colour, values)) in sets.iter().enumerate() {
        let bins = STEPS * DECADES as usize;
        let mut counts = vec![0_usize; bins];
        for value in *values {
            counts[((place(*value) * bins as f64) as usize).min(bins - 1)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let wide = across / bins as f64;
        for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (x, tall) = (MARGIN + wide * bin as f64, up * *count as f64 / most);
            let _ = write!(
                page,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{colour}\" fill-opacity=\".55\"/>",
                bottom - tall,
                wide - 1.0
            );
        }
        let label = format!("{name}: {} values", values.len());
        words(page, (width - MARGIN - 170.0, 28.0 + 16.0 * row as f64), colour, &label);
    }
    page.push_str("</svg>");
}

/// Messages of one pair by the transport that brought them, above how long they took; what failed is grey.
fn timeline(page: &mut String, timeline: &Timeline) {
    open(
        page,
        "One pair: each message, the transport that brought it (above), how long it took (below, 1 ms to 100 s)",
    );
    let (width, height) = SIZE;
    let (from, until) = timeline.window;
    let length = until.saturating_sub(from).as_secs_f64().max(1e-9);
    let x = |at: Duration| {
        let share = (at.as_secs_f64() - from.as_secs_f64()) / length;
        MARGIN + (width - 2.0 * MARGIN) * share.clamp(0.0, 1.0)
    };
    let lane = |medium: usize| 20.0 + 22.0 * medium as f64;
    for failure in &timeline.failures {
        let (left, right) = (x(failure.start), x(failure.end));
        for medium in &failure.media {
            let _ = write!(
                page,
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"20\" fill=\"#ccc\"><title>{}</title></rect>",
                lane(*medium) - 10.0,
                (right - left).max(2.0),
                failure.kind
            );
        }
        if failure.media.is_empty() {
            line(page, (left, 10.0), (left, height - 25.0), "#b3261e");
        }
        words(page, (left, 8.0), "#555", failure.kind.name());
    }
    for medium in 0..MEDIA_COUNT {
        words(page, (2.0, lane(medium) + 4.0), COLOURS[medium], MEDIA[medium].name);
    }
    let (top, bottom) = (lane(MEDIA_COUNT) + 5.0, height - 25.0);
    line(page, (MARGIN, bottom), (width - MARGIN, bottom), "#999");
    for (at, medium, took) in &timeline.messages {
        let (across, colour) = (x(*at), COLOURS[*medium]);
        let down = bottom - (bottom - top) * place(took.as_secs_f64() * 1e3);
        for y in [lane(*medium), down] {
            let _ = write!(page, "<circle cx=\"{across:.1}\" cy=\"{y:.1}\" r=\"1.8\" fill=\"{colour}\"/>");
        }
    }
    words(page, (MARGIN, height - 8.0), "#555", &format!("{:.0} s", from.as_secs_f64()));
    words(page, (width - MARGIN - 40.0, height - 8.0), "#555", &format!("{:.0} s", until.as_secs_f64()));
    page.push_str("</svg>");
}

fn kinds(page: &mut String, report: &Report) {
    page.push_str("<h2>By kind of failure</h2><table><tr><th>kind</th><th>injected</th><th>detection in flight, idle (mean, ms)</th>\
        <th>failover (mean, p99, max, ms)</th><th>missed</th><th>not migrated</th></tr>");
    for (name, kind) in &report.kinds {
        let mean = |summary: &Option<super::stats::Summary>| {
            summary.map_or_else(|| "–".to_owned(), |s| format!("{:.0} ({})", s.mean_ms, s.count))
        };
        let failover = kind.failover.map_or_else(
            || "–".to_owned(),
            |s| format!("{:.0}, {:.0}, {:.0} ({})", s.mean_ms, s.p99_ms, s.max_ms, s.count),
        );
        let _ = write!(
            page,
            "<tr><td>{name}</td><td>{}</td><td>{}, {}</td><td>{failover}</td><td>{}</td><td>{}</td></tr>",
            kind.injected,
            mean(&kind.detection_in_flight),
            mean(&kind.detection_idle),
            kind.missed,
            kind.not_migrated
        );
    }
    page.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_place_on_the_axis_and_text_cannot_become_markup() {
        assert_eq!([0.0, 1.0, 100_000.0, 1e9].map(place), [0.0, 0.0, 1.0, 1.0]);
        assert!((place(1_000.0) - 0.6).abs() < 1e-9);
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }

    #[test]
    fn a_distribution_has_a_bar_for_each_step_with_values() {
        let mut page = String::new();
        distribution(&mut page, "t", &[("a", "#000", &[1.0, 1.0, 50.0, 20_000.0])]);
        assert_eq!(page.matches("<rect").count(), 3);
        assert!(page.contains("a: 4 values"));
    }
}
