"""Joins what tests/load/bench.sh measured into report.json and report.md, and prints the table.

Usage: report.py DIRECTORY CRITERION_DIRECTORY BINARY FILESYSTEM. Exit code 1 when Weir lost something or a
measurement is missing. Only the standard library.
"""

import datetime
import json
import pathlib
import platform
import shutil
import subprocess
import sys

CPU = ("server_cpu_per_million", "CPU s per million")
RATE = ("deliveries_per_second", "deliveries/s")
# What each measurement is called, and which of its figures are for the table.
FAN_OUT = [CPU, RATE, ("publish_to_delivery_p50", "ms p50"), ("publish_to_delivery_p99", "ms p99")]
IDLE = [("rss_per_connection", "bytes of memory per connection"), ("cpu_per_accept", "µs CPU per accept")]
LATENCY = [("publish_to_delivery_p50", "ms p50"), ("publish_to_delivery_p99", "ms p99"), ("rate", "events/s")]
PUBLISH = [("rate", "events/s"), ("server_cpu_per_million", "CPU s per million"), ("latency_p99", "ms p99")]
REPLAY = [("rate", "events/s"), ("server_cpu_per_million", "CPU s per million")]
RESUME = [("all_have_all_after", "s until all have all"), ("cpu_per_client", "µs CPU per client")]
GRAPHQL = [("event_stream_times_ws", "× the CPU of /ws"), ("event_stream_cpu_per_million", "CPU s per million"), ("ws_cpu_per_million", "over /ws"), ("refused_doubling_fragments_p99", "ms p99 to refuse a bomb")]
REVOKE = [("revoke_to_last_delivery_p50", "ms p50"), ("revoke_to_last_delivery_p99", "ms p99"), ("revoke_to_answer_p99", "ms p99 to the answer")]
REOPEN = [("kept", "bytes kept"), ("seconds", "s until ready"), ("seconds_per_gb", "s per GB")]
MEASURED = {
    "ws-10": ("fan-out, WebSocket, 10 msg/s", FAN_OUT),
    "sse-10": ("fan-out, SSE, 10 msg/s", FAN_OUT),
    "floor-10": ("floor, bare sends, 10 msg/s", [CPU, RATE]),
    "nchan-ws-10": ("nginx nchan, WebSocket, 10 msg/s", FAN_OUT),
    "nchan-sse-10": ("nginx nchan, SSE, 10 msg/s", FAN_OUT),
    "ws-200": ("fan-out, WebSocket, 200 msg/s", FAN_OUT),
    "sse-200": ("fan-out, SSE, 200 msg/s", FAN_OUT),
    "floor-200": ("floor, bare sends, 200 msg/s", [CPU, RATE]),
    "nchan-ws-200": ("nginx nchan, WebSocket, 200 msg/s", FAN_OUT),
    "nchan-sse-200": ("nginx nchan, SSE, 200 msg/s", FAN_OUT),
    "idle-ws": ("idle WebSockets", IDLE),
    "idle-sse": ("idle event streams", IDLE),
    "publish": ("publish, one by one, 256 connections", PUBLISH),
    "publish-batch": ("publish, batches of 100, 64 connections", PUBLISH),
    "latency": ("publish to delivery at 5,000/s", LATENCY),
    "resume": ("all subscribers come back at once, 20 events behind", RESUME),
    "graphql": ("GraphQL `eventStream` beside /ws, in turns", GRAPHQL),
    "revoke": ("a key is revoked, to its last delivery on three nodes", REVOKE),
    "reopen": ("killed, started again", REOPEN),
    "cluster-publish": ("publish, three nodes and three NATS servers on this machine, 256 connections", PUBLISH),
    "cluster-publish-batch": ("batches of 100, the same, 64 connections", PUBLISH),
    "cluster-latency": ("publish to delivery at 1,000/s, the same", LATENCY),
    "replay": ("replay through REST pages", REPLAY),
}


def text(path):
    """The text of a file, or none."""
    return path.read_text(errors="replace").strip() if path.exists() else ""


def output(*command):
    """The first line a command says, on either stream."""
    if not shutil.which(command[0]):
        return None
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().split("\n")[0]


def machine(directory, binary, filesystem):
    """What the figures were measured on."""
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "filesystem": filesystem,
        "load_average_at_end": text(pathlib.Path("/proc/loadavg")),
        "weir": output(binary, "--version"),
        "commit": output("git", "rev-parse", "--short", "HEAD"),
        "rustc": output("rustc", "--version"),
        "nginx": output("nginx", "-v"),
    }
    for path in directory.glob("*.json"):
        try:
            return facts | json.loads(path.read_text())["machine"]
        except (ValueError, KeyError):
            continue
    return facts


def measurement(directory, name):
    """What one run of the client said, how it was called, and how busy the machine was before."""
    try:
        said = json.loads(text(directory / f"{name}.json"))
        results, good = said["results"], said["good"]
    except (ValueError, KeyError):
        results, good = {}, False
    found = {
        "name": name,
        "title": MEASURED[name][0],
        "command": text(directory / f"{name}.command"),
        "load_average_before": text(directory / f"{name}.load"),
        "good": good,
        "results": results,
    }
    if not results:
        found["error"] = text(directory / f"{name}.error")[-500:]
    return found


def ratios(found):
    """CPU per delivery over that of the floor and of nchan in the same run."""
    cpu = {one["name"]: one["results"].get(CPU[0]) for one in found}
    for one in found:
        transport, _, rate = one["name"].rpartition("-")
        if transport in ("ws", "sse"):
            for peer in (f"floor-{rate}", f"nchan-{transport}-{rate}"):
                if cpu.get(peer) and cpu[one["name"]]:
                    one[f"times_{peer.split('-')[0]}"] = round(cpu[one["name"]] / cpu[peer], 3)


def criterion(directory, since):
    """Medians of the benches that ran after a moment, in nanoseconds, with elements per second where told."""
    found = []
    for path in sorted(directory.glob("**/new/estimates.json")):
        if path.stat().st_mtime < since:
            continue
        nanos = json.loads(path.read_text())["median"]["point_estimate"]
        about = json.loads((path.parent / "benchmark.json").read_text())
        one = {"bench": about["full_id"], "median_ns": round(nanos, 1)}
        elements = (about.get("throughput") or {}).get("Elements")
        if elements:
            one["elements_per_second"] = round(elements * 1e9 / nanos)
        found.append(one)
    return found


def shown(value):
    """A figure for a person."""
    return "-" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def row(one):
    """One line of the table of measurements."""
    figures = [f"{shown(one['results'][key])} {unit}" for key, unit in MEASURED[one["name"]][1] if key in one["results"]]
    lost = one["results"].get("lost")
    if not one["good"]:
        figures.append(f"**lost {lost}**" if lost else f"**failed** {one.get('error', '')}")
    cells = [one["title"], "; ".join(figures), shown(one.get("times_floor")), shown(one.get("times_nchan"))]
    return f"| {' | '.join(cells)} | {one['load_average_before']} |"


def table(found, benches):
    """Everything measured, as Markdown."""
    lines = ["| measured | figures | × floor | × nchan | load before |", "|---|---|---|---|---|"]
    lines += [row(one) for one in found]
    if benches:
        lines += ["", "| criterion | median | per second |", "|---|---|---|"]
    for one in benches:
        rate = shown(one.get("elements_per_second"))
        lines.append(f"| {one['bench']} | {shown(one['median_ns'])} ns | {rate} |")
    return "\n".join(lines)


def main():
    directory, benches, binary, filesystem = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), *sys.argv[3:]
    facts = machine(directory, binary, filesystem)
    found = [measurement(directory, name) for name in MEASURED if (directory / f"{name}.command").exists()]
    ratios(found)
    began = directory / "criterion-began"
    medians = criterion(benches, began.stat().st_mtime) if began.exists() else []
    report = {"machine": facts, "measurements": found, "criterion": medians}
    skipped = ["nginx nchan was not measured: it is not installed."] if (directory / "nchan-skipped").exists() else []
    (directory / "report.json").write_text(json.dumps(report, indent=1) + "\n")

    lines = ["# Bench report", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in facts.items()]
    lines += ["", table(found, medians), "", *skipped, "", "## Commands", ""]
    lines += [f"- {one['name']}: `{one['command']}`" for one in found]
    (directory / "report.md").write_text("\n".join(lines) + "\n")
    print("\n".join([table(found, medians), *skipped, f"report: {directory}/report.md and report.json"]))
    bad = [one["name"] for one in found if not one["good"] and not one["name"].startswith("nchan")]
    if bad:
        sys.exit(f"not good: {', '.join(bad)}")


main()
