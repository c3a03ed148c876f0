//! From numbers to lines.

use super::sample::{Alert, Node, Rates, Sample, Seen};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_core::Timestamp;

/// Lines above the lists.
const HEAD: usize = 8;

/// As JSON, for scripts.
pub fn json(now: &Sample, rates: &Rates) -> Value {
    let nodes = now.nodes.iter().map(|(url, node)| match node {
        Ok(node) => json!({ "url": url, "node": node }),
        Err(error) => json!({ "url": url, "error": error }),
    });
    json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "connections": { "websocket": now.sum(|node| node.websocket), "sse": now.sum(|node| node.sse) },
        "per_second": rates,
        "alerts": alerts(now),
    })
}

/// The open alerts, as the first node that knows tells.
fn alerts(now: &Sample) -> Option<Vec<&Alert>> {
    let mut alerts: Vec<_> = now.answered().find_map(|node| node.alerts.as_ref())?.iter().collect();
    let rank =
        |alert: &Alert| ["critical", "warning", "info"].iter().position(|name| alert.severity == *name);
    alerts.sort_by_key(|alert| rank(alert));
    Some(alerts)
}

/// The lines of a screen of this size.
pub fn lines(now: &Sample, rates: &Rates, (columns, rows): (usize, usize), colour: bool) -> Vec<String> {
    let paint = Paint { columns, colour };
    let mut lines = head(now, rates, &paint);
    // A third of what is left for each list, and what one does not need for the others.
    let left = rows.saturating_sub(HEAD + 6);
    let known = now.answered().find_map(|node| node.nodes.as_deref()).unwrap_or_default();
    let alerts = alerts(now);
    let nodes = (known.len() + failed(now)).clamp(1, (left / 4).max(1));
    let alarms =
        alerts.as_ref().map_or(1, |alerts| alerts.len().max(1)).min((left.saturating_sub(nodes) / 2).max(1));
    let tenants = left.saturating_sub(nodes + alarms).max(1);
    lines.extend(tenant_lines(now, rates, tenants, &paint));
    lines.push(String::new());
    lines.extend(alert_lines(alerts.as_deref(), alarms, &paint));
    lines.push(String::new());
    lines.extend(node_lines(now, known, nodes, &paint));
    lines.truncate(rows);
    lines
}

struct Paint {
    columns: usize,
    colour: bool,
}

impl Paint {
    /// A line of at most the screen's width, in a colour.
    fn line(&self, code: &str, text: &str) -> String {
        let cut: String = text.chars().take(self.columns).collect();
        if self.colour && !code.is_empty() { format!("\x1b[{code}m{cut}\x1b[0m") } else { cut }
    }

    fn title(&self, text: &str) -> String {
        self.line("1", text)
    }
}

fn head(now: &Sample, rates: &Rates, paint: &Paint) -> Vec<String> {
    let first = now.nodes.first().map_or("", |(url, _)| url.as_str());
    let (answered, asked) = (now.answered().count(), now.nodes.len());
    let time = now.answered().map(|node| node.now).max().unwrap_or_default();
    let clock = time.to_string();
    let clock = clock.get(11..19).unwrap_or_default();
    let up = now.answered().map(|node| age(time, node.started_at)).next().unwrap_or_else(|| "-".into());
    let who = if asked == 1 { first.to_owned() } else { format!("{answered} of {asked} nodes") };
    let times = |pair: Option<(f64, f64)>| {
        pair.map_or_else(|| "-".to_owned(), |(half, most)| format!("p50 {half:.1} ms  p99 {most:.1} ms"))
    };
    let percent = if rates.requests > 0.0 { rates.failures * 100.0 / rates.requests } else { 0.0 };
    let fullest = now
        .answered()
        .map(|node| (node.queued_bytes * 100).checked_div(node.queue_limit).unwrap_or(0))
        .max()
        .unwrap_or(0);
    let lag = now.answered().map(|node| node.usage_lag_ms).max().unwrap_or(0);
    vec![
        paint.line(
            "7",
            &format!(
                "{:<width$}",
                format!(" weir top  {who}  up {up}  {clock} UTC  q quits"),
                width = paint.columns
            ),
        ),
        String::new(),
        paint.line(
            "",
            &format!(
                "Connections {:>9}   ws {}  sse {}  projects {}  lagging {}  slow {}/s",
                number(now.sum(|node| node.websocket + node.sse)),
                number(now.sum(|node| node.websocket)),
                number(now.sum(|node| node.sse)),
                number(now.sum(|node| node.projects)),
                number(now.sum(|node| node.lagging)),
                rate(rates.slow_consumers),
            ),
        ),
        paint.line(
            "",
            &format!(
                "Published   {:>9}/s  delivered {}/s  {}B/s",
                rate(rates.published),
                rate(rates.delivered),
                rate(rates.bytes)
            ),
        ),
        paint.line(
            if percent >= 5.0 { "31" } else { "" },
            &format!(
                "Requests    {:>9}/s  failed {percent:.1} %  refused credentials {}/s",
                rate(rates.requests),
                rate(rates.refused)
            ),
        ),
        paint.line(
            "",
            &format!("Times       publish {}   deliver {}", times(rates.publish_ms), times(rates.deliver_ms)),
        ),
        paint.line(
            if fullest >= 80 { "31" } else { "" },
            &format!(
                "Queue       {} {fullest} %   usage counted {:.1} s ago",
                bar(fullest),
                number_f(lag) / 1_000.0
            ),
        ),
        String::new(),
    ]
}

fn tenant_lines(now: &Sample, rates: &Rates, most: usize, paint: &Paint) -> Vec<String> {
    let mut connections: BTreeMap<&str, u64> = BTreeMap::new();
    for tenant in now.answered().flat_map(|node: &Node| &node.tenants) {
        *connections.entry(&tenant.tenant).or_default() += tenant.connections;
    }
    let of = |tenant: &str| rates.tenants.get(tenant).copied().unwrap_or(0.0);
    let mut tenants: Vec<(&str, u64, f64)> =
        connections.into_iter().map(|(tenant, count)| (tenant, count, of(tenant))).collect();
    tenants.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.1.cmp(&a.1)));
    let mut lines = vec![paint.title(&format!("{:<38}{:>12}{:>14}", "TENANT", "CONNECTIONS", "DELIVERED/s"))];
    let rows = tenants.iter().take(most);
    lines.extend(rows.map(|(tenant, count, delivered)| {
        paint.line("", &format!("{tenant:<38}{:>12}{:>14}", number(*count), rate(*delivered)))
    }));
    if tenants.is_empty() {
        lines.push(paint.line("2", "nobody yet"));
    }
    lines
}

fn alert_lines(alerts: Option<&[&Alert]>, most: usize, paint: &Paint) -> Vec<String> {
    let Some(alerts) = alerts else {
        return vec![paint.title("ALERTS"), paint.line("31", "the database does not tell")];
    };
    let mut lines = vec![paint.title(&format!("ALERTS  {} open", alerts.len()))];
    if alerts.is_empty() {
        lines.push(paint.line("32", "none"));
    }
    lines.extend(alerts.iter().take(most).map(|alert| {
        let code = match alert.severity.as_str() {
            "critical" => "1;31",
            "warning" => "33",
            _ => "36",
        };
        let since = alert.first_seen_at.to_string();
        let seen = since.get(5..16).unwrap_or_default().replace('T', " ");
        let taken = if alert.acknowledged_at.is_some() { "*" } else { " " };
        let text = format!("{:<8}{taken} {seen} {:<16} {}", alert.severity, alert.condition, alert.message);
        paint.line(code, &text)
    }));
    lines
}

fn failed(now: &Sample) -> usize {
    now.nodes.iter().filter(|(_, node)| node.is_err()).count()
}

fn node_lines(now: &Sample, known: &[Seen], most: usize, paint: &Paint) -> Vec<String> {
    let mut lines = vec![paint.title(&format!("{:<38}{:<12}{:<10}SEEN", "NODE", "VERSION", "UP"))];
    let time = known.iter().map(|seen| seen.seen_at).max().unwrap_or_default();
    let away = now.nodes.iter().filter_map(|(url, node)| Some((url, node.as_ref().err()?)));
    let mut rows: Vec<String> =
        away.map(|(url, cause)| paint.line("31", &format!("{url} cannot be read: {cause}"))).collect();
    rows.extend(known.iter().map(|seen| {
        let version = if seen.version.is_empty() { "-" } else { &seen.version };
        let (up, ago) = (age(time, seen.started_at), age(time, seen.seen_at));
        paint.line("", &format!("{:<38}{version:<12}{up:<10}{ago} ago", seen.id))
    }));
    if rows.is_empty() {
        rows.push(paint.line("31", "the database does not tell"));
    }
    rows.truncate(most.max(1));
    lines.extend(rows);
    lines
}

/// How long ago, roughly.
fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn bar(percent: u64) -> String {
    const WIDTH: usize = 20;
    let full = usize::try_from(percent.min(100)).unwrap_or(0) * WIDTH / 100;
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}

/// 1234567 as `1,234,567`.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in few characters.
fn rate(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2}G", value / 1e9),
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn number_f(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::histogram::Buckets;
    use crate::top::sample::Tenant;
    use std::time::Instant;

    fn sample() -> Sample {
        let tenant = |n: u32| Tenant { tenant: format!("ten_{n:032x}"), connections: 7, delivered: 1 };
        let alert = |n: u32| Alert {
            severity: ["info", "critical"][n as usize % 2].to_owned(),
            condition: "auth-failures".to_owned(),
            message: "long ".repeat(50),
            ..Alert::default()
        };
        let seen = |n: u32| Seen { id: format!("nod_{n:032x}"), ..Seen::default() };
        let node = Node {
            tenants: (0..50).map(tenant).collect(),
            alerts: Some((0..50).map(alert).collect()),
            nodes: Some((0..50).map(seen).collect()),
            queued_bytes: 9,
            queue_limit: 10,
            ..Node::default()
        };
        Sample {
            at: Instant::now(),
            nodes: vec![("http://a".into(), Ok(node)), ("http://b".into(), Err("gone".into()))],
            publishing: Buckets::default(),
            delivering: Buckets::default(),
        }
    }

    #[test]
    fn everything_fits_the_screen_and_every_list_has_a_place() {
        for (columns, rows) in [(80, 24), (40, 18), (200, 60)] {
            let lines = lines(&sample(), &Rates::default(), (columns, rows), false);
            assert!(lines.len() <= rows, "{} lines in {rows}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{columns}: {lines:#?}");
            let text = lines.join("\n");
            for part in
                ["Connections", "TENANT", "ten_0", "ALERTS  50 open", "critical", "NODE", "http://b cannot"]
            {
                assert!(text.contains(part), "{part} is not in {columns}x{rows}:\n{text}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([number(0), number(999), number(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([rate(0.0), rate(2.5), rate(12_345.0), rate(2.5e6)], ["0", "2.5", "12.3k", "2.50M"]);
    }
}
