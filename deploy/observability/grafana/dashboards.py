#!/usr/bin/env python3
"""The Grafana dashboards as data. `dashboards.py write` makes dashboards/*.json, `dashboards.py check` compares.

A panel is a title, a unit and its queries with their legends. Every query is run against a real Prometheus in the tests
(tests/integration/src/dashboards.rs), so none can be empty.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
OF = '{instance=~"$instance"}'
RATE = "[$__rate_interval]"
RUNBOOKS = "docs/runbooks.md has a chapter for every alert."


def of(series, *labels):
    """A selector of a series on the chosen nodes."""
    return series + "{" + ", ".join([*labels, 'instance=~"$instance"']) + "}"


def rate(series, *labels, by=""):
    """Its rate, summed up."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({of(series, *labels)}{RATE}))"


def quantile(q, series, *labels, by=""):
    """A quantile over all nodes."""
    grouped = ", ".join(["le", *([by] if by else [])])
    return f"histogram_quantile({q}, sum by ({grouped}) (rate({of(series + '_bucket', *labels)}{RATE})))"


def quantiles(series, *labels):
    return [(quantile(q, series, *labels), name) for q, name in [(0.5, "median"), (0.99, "99 %")]]


def mean(series, *labels):
    return f"{rate(series + '_sum', *labels)} / {rate(series + '_count', *labels)}"


def panel(title, unit, *queries, kind="timeseries", description="", signed=False):
    return {"title": title, "unit": unit, "queries": queries, "kind": kind, "description": description, "signed": signed}


def number(title, unit, *queries, **more):
    return panel(title, unit, *queries, kind="stat", **more)


DASHBOARDS = {
    "overview": ("Weir: overview", [
        ("Is it well", [
            number("Nodes", "none", (f'count(up{{job="weir"}} == 1)', "up")),
            number("Not ready", "none", (f'count({of("weir_dependency_up")} == 0) or vector(0)', "dependencies"),
                   description="What /readyz of a node says in words."),
            number("Requests that fail", "percentunit",
                   (f'{rate("weir_http_requests_total", "status=~" + chr(34) + "5.." + chr(34))} / {rate("weir_http_requests_total")} or vector(0)', "5xx")),
            number("Delivered within (99 %)", "s", (quantile(0.99, "weir_delivery_latency_seconds"), "99 %")),
            number("Connections", "none", (f"sum({of('weir_connections')})", "live")),
            number("Versions", "none", (f"count by (version) ({of('weir_build_info')})", "{{version}}")),
        ]),
        ("What it does", [
            panel("Events", "ops", (rate("weir_events_published_total"), "published"),
                  (rate("weir_events_delivered_total"), "delivered"), (rate("weir_events_replayed_total"), "replayed")),
            panel("Connections", "none", (f"sum by (transport) ({of('weir_connections')})", "{{transport}}")),
            panel("Requests by transport", "reqps", (rate("weir_http_requests_total", by="transport"), "{{transport}}")),
            panel("Requests by route", "reqps", (f'topk(10, {rate("weir_http_requests_total", by="route")})', "{{route}}")),
            panel("Time to answer (99 %)", "s",
                  (f'topk(10, {quantile(0.99, "weir_http_request_duration_seconds", by="route")})', "{{route}}")),
            panel("GraphQL operations", "reqps", (rate("weir_graphql_operations_total", by="kind"), "{{kind}}")),
            panel("Time of a GraphQL query or mutation (99 %)", "s",
                  (quantile(0.99, "weir_graphql_operation_duration_seconds", by="kind"), "{{kind}}")),
            panel("Answers by status", "reqps", (rate("weir_http_requests_total", by="status"), "{{status}}")),
            panel("Errors by code", "ops", (f'topk(10, {rate("weir_errors_total", by="code")})', "{{code}}")),
            panel("Refusals by limit", "ops", (f'topk(10, {rate("weir_limit_refusals_total", by="limit")})', "{{limit}}")),
            panel("Credentials", "ops", (rate("weir_authentications_total", by="outcome"), "{{outcome}}")),
        ]),
        ("Nodes", [
            panel("Processor", "percentunit", (f"rate({of('process_cpu_seconds_total')}{RATE})", "{{instance}}")),
            panel("Memory", "bytes", (of("process_resident_memory_bytes"), "{{instance}}")),
            panel("File descriptors", "percentunit",
                  (f"{of('process_open_fds')} / {of('process_max_fds')}", "{{instance}}")),
            panel("Threads", "none", (of("process_threads"), "{{instance}}")),
            panel("Age of the access state", "s", (of("weir_access_state_age_seconds"), "{{instance}}"),
                  (f"max({of('weir_access_state_window_seconds')})", "deliveries stop"),
                  description="How long ago the node confirmed who may do what."),
            panel("Clock ahead of the database's", "s", (of("weir_clock_ahead_seconds"), "{{instance}}"), signed=True),
            panel("Up since", "dateTimeFromNow", (f"{of('process_start_time_seconds')} * 1000", "{{instance}}"), kind="stat"),
            panel("Breakers open", "none", (of("weir_breaker_open"), "{{instance}} {{breaker}}")),
            panel("Dependencies", "none", (of("weir_dependency_up"), "{{instance}} {{dependency}}")),
            panel("What a scrape costs the node", "s", (of("weir_last_scrape_duration_seconds"), "{{instance}}")),
        ]),
    ]),
    "tenant": ("Weir: tenants", [
        ("The busiest tenants, and all others together", [
            panel("Events published", "ops",
                  (rate("weir_tenant_events_published_total", 'tenant=~"$tenant"', by="tenant"), "{{tenant}}")),
            panel("Events delivered", "ops",
                  (rate("weir_tenant_events_delivered_total", 'tenant=~"$tenant"', by="tenant"), "{{tenant}}")),
            panel("Requests", "reqps", (rate("weir_tenant_requests_total", 'tenant=~"$tenant"', by="tenant"), "{{tenant}}")),
            panel("Connections", "none",
                  (f"sum by (tenant) ({of('weir_tenant_connections', 'tenant=~' + chr(34) + '$tenant' + chr(34))})", "{{tenant}}")),
            panel("Fan-out", "none",
                  (f'{rate("weir_tenant_events_delivered_total", by="tenant")} / {rate("weir_tenant_events_published_total", by="tenant")}', "{{tenant}}"),
                  description="Deliveries for each published event."),
            panel("Share of all deliveries", "percentunit",
                  (f'{rate("weir_tenant_events_delivered_total", by="tenant")} / scalar({rate("weir_tenant_events_delivered_total")})', "{{tenant}}")),
        ]),
        ("Limits", [
            panel("Refusals", "ops", (rate("weir_limit_refusals_total", by="limit"), "{{limit}}")),
            panel("Reached a share of their events", "none",
                  (f"sum by (percent) ({of('weir_quota_thresholds_total')})", "{{percent}} %"),
                  description="Tenants that did, since the nodes started. The log names them."),
        ]),
    ]),
    "delivery": ("Weir: delivery path", [
        ("In", [
            panel("Published", "ops", (rate("weir_events_published_total"), "stored"),
                  (rate("weir_events_repeated_total"), "repeated"), (rate("weir_events_conflicting_total"), "in conflict")),
            panel("Until it is durable", "s", *quantiles("weir_log_call_duration_seconds", 'call="append"')),
            panel("Appends", "ops", (rate("weir_log_calls_total", 'call="append"', by="outcome"), "{{outcome}}")),
            panel("Waits to be stored", "bytes", (of("weir_log_queued_bytes"), "{{instance}}"),
                  (f"max({of('weir_log_queue_limit_bytes')})", "refused from here")),
        ]),
        ("Through", [
            panel("From acceptance to the sockets", "s", *quantiles("weir_delivery_latency_seconds")),
            panel("The feed brings", "ops", (rate("weir_events_fed_total", by="instance"), "{{instance}}")),
            panel("Behind the log", "none", (of("weir_log_lag_events"), "{{instance}}")),
            panel("Holes filled from the log", "ops", (rate("weir_log_holes_total", by="instance"), "{{instance}}")),
            panel("Waits for the shards", "bytes", (of("weir_hub_queued_bytes"), "{{instance}}")),
            panel("Kept for resuming", "bytes", (of("weir_hub_ring_bytes"), "{{instance}}")),
        ]),
        ("Out", [
            panel("Delivered", "ops", (rate("weir_events_delivered_total", by="instance"), "{{instance}}")),
            panel("Bytes", "Bps", (rate("weir_delivered_bytes_total", by="instance"), "{{instance}}")),
            panel("Connections an event goes to, on a shard", "none", (mean("weir_fanout_connections"), "mean"),
                  (quantile(0.99, "weir_fanout_connections"), "99 %")),
            panel("Events in one send", "none", (f'{rate("weir_events_delivered_total")} / {rate("weir_hub_sends_total")}', "events")),
            panel("A pass of a shard", "s", *quantiles("weir_hub_pass_duration_seconds")),
            panel("Connections that lag", "none", (of("weir_lagging_connections"), "{{instance}}")),
            panel("Closed for not reading", "ops", (rate("weir_slow_consumers_total", by="instance"), "{{instance}}")),
            panel("Followed projects", "none", (of("weir_followed_projects"), "{{instance}}")),
        ]),
        ("Webhooks", [
            panel("Attempts", "ops", (rate("weir_webhook_attempts_total", by="outcome"), "{{outcome}}")),
            panel("Became dead letters", "none", (f"sum(increase({of('weir_webhook_messages_dead_total')}{RATE}))", "messages")),
            panel("Dead letters", "none", (f"max({of('weir_dead_letters')})", "of all tenants")),
            panel("Endpoints disabled", "none", (f"sum({of('weir_webhooks_disabled_total')})", "since the nodes started")),
        ]),
        ("Who comes and comes back", [
            panel("Frames", "ops", (rate("weir_websocket_frames_total", by="frame"), "{{frame}}")),
            panel("Frames refused or failed", "ops",
                  (rate("weir_websocket_frames_total", 'outcome!="ok"', by="outcome"), "{{outcome}}")),
            panel("Time to subscribe, replay included", "s", *quantiles("weir_websocket_frame_duration_seconds", 'frame="subscribe"')),
            panel("Sessions", "none", (f"sum by (protocol) ({of('weir_sessions')})", "{{protocol}}")),
            panel("Events read from history", "ops", (rate("weir_events_replayed_total"), "events")),
            panel("Replays now", "none", (of("weir_replays"), "{{instance}}")),
        ]),
    ]),
    "billing": ("Weir: billing", [
        ("Counting", [
            panel("Behind with counting", "s", (of("weir_usage_lag_seconds"), "{{instance}}")),
            panel("Behind with telling", "s", (of("weir_usage_flush_lag_seconds"), "{{instance}}")),
            panel("Counters that wait", "none", (of("weir_usage_unsent"), "{{instance}}")),
            panel("Events counted", "ops", (rate("weir_usage_counted_total"), "events")),
            number("Lost before they were counted", "none", (f"sum({of('weir_usage_lost_total')})", "events")),
            number("Differences found", "none", (f"sum({of('weir_usage_drift_total')})", "events")),
            panel("Tenants that reached a share", "none",
                  (f"sum by (percent) ({of('weir_quota_thresholds_total')})", "{{percent}} %")),
        ]),
        ("Stripe", [
            panel("Reports", "none", (f"sum by (outcome) (increase({of('weir_billing_reports_total')}{RATE}))", "{{outcome}}")),
            panel("Reports that wait", "none", (f"sum({of('weir_billing_reports_waiting')})", "reports")),
            panel("Age of the oldest", "s", (f"max({of('weir_billing_oldest_report_age_seconds')})", "report")),
            panel("Webhooks", "none", (f"sum by (outcome) (increase({of('weir_billing_webhooks_total')}{RATE}))", "{{outcome}}")),
            panel("Tenants that became past due", "none", (f"sum({of('weir_billing_past_due_total')})", "tenants")),
            panel("Suspensions", "none", (f"sum by (outcome) ({of('weir_billing_suspensions_total')})", "{{outcome}}")),
        ]),
    ]),
    "nats": ("Weir: NATS", [
        ("The link, as the nodes see it", [
            panel("Connected", "none", (of("weir_nats_connected"), "{{instance}}")),
            panel("Times connected", "none", (of("weir_nats_connects_total"), "{{instance}}")),
            panel("Messages", "ops", (rate("weir_nats_messages_total", by="direction"), "{{direction}}")),
            panel("Bytes", "Bps", (rate("weir_nats_bytes_total", by="direction"), "{{direction}}")),
        ]),
        ("JetStream", [
            panel("Until it is durable", "s",
                  *quantiles("weir_log_call_duration_seconds", 'backend="jetstream"', 'call="append"')),
            panel("Appends", "ops", (rate("weir_log_calls_total", 'backend="jetstream"', 'call="append"', by="outcome"), "{{outcome}}")),
            panel("To read a page", "s",
                  *quantiles("weir_log_call_duration_seconds", 'backend="jetstream"', 'call="read"')),
            panel("Reads", "ops", (rate("weir_log_calls_total", 'backend="jetstream"', 'call="read"', by="outcome"), "{{outcome}}")),
            panel("Bytes of a stream, on one server", "bytes",
                  (f'max by (stream) ({of("weir_log_stream_bytes", "stream!=" + chr(34) + "embedded" + chr(34))})', "{{stream}}"),
                  (f"max by (stream) ({of('weir_log_stream_limit_bytes')})", "{{stream}}: refused from here")),
            panel("Events in a stream", "none", (f"max by (stream) ({of('weir_log_stream_events')})", "{{stream}}")),
            panel("Live feed behind", "none", (f"{of('weir_log_lag_events')} and on (instance) weir_nats_connected", "{{instance}}")),
            panel("Holes filled from the stream", "ops",
                  (f"rate({of('weir_log_holes_total')}{RATE}) and on (instance) weir_nats_connected", "{{instance}}")),
        ]),
    ]),
    "postgresql": ("Weir: PostgreSQL", [
        ("Calls, as the nodes see them", [
            panel("Calls", "ops", (rate("weir_database_calls_total", 'database="postgres"', by="outcome"), "{{outcome}}")),
            panel("Time of a call", "s", *quantiles("weir_database_call_duration_seconds", 'database="postgres"')),
            panel("Mean time by node", "s",
                  (f'sum by (instance) (rate({of("weir_database_call_duration_seconds_sum", "database=" + chr(34) + "postgres" + chr(34))}{RATE})) '
                   f'/ sum by (instance) (rate({of("weir_database_call_duration_seconds_count", "database=" + chr(34) + "postgres" + chr(34))}{RATE}))', "{{instance}}")),
            panel("Breaker open", "none", (of("weir_breaker_open", 'breaker="database"'), "{{instance}}")),
            panel("Answers", "none", (of("weir_dependency_up", 'dependency="database"'), "{{instance}}")),
        ]),
        ("Connections", [
            panel("Connections", "none",
                  (f'sum by (state) ({of("weir_database_connections", "database=" + chr(34) + "postgres" + chr(34))})', "{{state}}"),
                  (f'sum({of("weir_database_connections_limit", "database=" + chr(34) + "postgres" + chr(34))})', "at most")),
            panel("Busy, of what a node may have", "percentunit",
                  (f'sum by (instance) ({of("weir_database_connections", "database=" + chr(34) + "postgres" + chr(34), "state=" + chr(34) + "busy" + chr(34))}) '
                   f'/ sum by (instance) ({of("weir_database_connections_limit")})', "{{instance}}")),
        ]),
        ("What hangs on it", [
            panel("Age of the access state", "s", (of("weir_access_state_age_seconds"), "{{instance}}")),
            panel("Last change of access enforced", "none", (of("weir_access_version"), "{{instance}}")),
            panel("Usage not told yet", "s", (of("weir_usage_flush_lag_seconds"), "{{instance}}")),
            panel("Clock ahead of the database's", "s", (of("weir_clock_ahead_seconds"), "{{instance}}"), signed=True),
        ]),
    ]),
}

SOURCE = {"type": "prometheus", "uid": "${source}"}


def variable(name, label, series):
    query = f"label_values({series}, {name})"
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
            "query": {"query": query, "refId": name}, "refresh": 2, "includeAll": True, "multi": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "sort": 1}


def render_panel(number, spec, x, y, width):
    targets = [{"refId": chr(65 + n), "datasource": SOURCE, "expr": query, "legendFormat": legend}
               for n, (query, legend) in enumerate(spec["queries"])]
    return {"id": number, "type": spec["kind"], "title": spec["title"], "description": spec["description"],
            "datasource": SOURCE, "gridPos": {"h": 8 if spec["kind"] == "timeseries" else 4, "w": width, "x": x, "y": y},
            "fieldConfig": {"defaults": {"unit": spec["unit"], **({} if spec["signed"] else {"min": 0})}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
            if spec["kind"] == "timeseries" else {"reduceOptions": {"calcs": ["lastNotNull"]}},
            "targets": targets}


def render(name, title, rows):
    panels, number, y = [], 0, 0
    for heading, specs in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y, x, height = y + 1, 0, 0
        width = 4 if all(spec["kind"] == "stat" for spec in specs) else 8
        for spec in specs:
            if x + width > 24:
                x, y, height = 0, y + height, 0
            number += 1
            one = render_panel(number, spec, x, y, width)
            panels.append(one)
            x, height = x + width, max(height, one["gridPos"]["h"])
        y += height
    variables = [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                 variable("instance", "Node", "weir_build_info")]
    if name == "tenant":
        variables.append(variable("tenant", "Tenant", "weir_tenant_events_published_total"))
    return {"uid": f"weir-{name}", "title": title, "description": RUNBOOKS, "tags": ["weir"], "timezone": "browser",
            "schemaVersion": 39, "refresh": "30s", "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": variables}, "annotations": {"list": []}, "panels": panels,
            "links": [{"type": "dashboards", "tags": ["weir"], "title": "Weir", "asDropdown": True}]}


def main():
    failed = False
    for name, (title, rows) in DASHBOARDS.items():
        text = json.dumps(render(name, title, rows), indent=1, ensure_ascii=False) + "\n"
        file = FOLDER / f"{name}.json"
        if sys.argv[1:] == ["write"]:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            print(f"{file} is not what dashboards.py makes: run `make generate` and commit the result", file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
