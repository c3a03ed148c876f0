#!/usr/bin/env bash
# What watching costs: the fan-out with and without a collector and a scraper, in turn on servers of their own:
# tests/load/traces.sh PROFILE. Without: nothing is traced, nobody scrapes. With: a real collector gets 10 % of the traces, and
# /metrics is read every second. Prints the server's CPU seconds per million deliveries of each pair, and the median of the
# ratios. CONNECTIONS, RATE, DURATION (seconds) and PAIRS say how much. Fails when a delivery was lost.
set -euo pipefail
cd "$(dirname "$0")/../.."

weir="${CARGO_TARGET_DIR:-target}/$1/weir"
# shellcheck source=tests/load/servers.sh
. tests/load/servers.sh
connections="${CONNECTIONS:-10000}" rate="${RATE:-200}" seconds="${DURATION:-5}" pairs="${PAIRS:-5}"

rotel="${WEIR_ROTEL:-$(python3 -c "import importlib.metadata as m
print(next(str(f.locate().resolve()) for f in m.files('rotel') if f.name == 'rotel-agent'))")}"
collector=127.0.0.1:24318

# measure NAME: the server's CPU seconds per million deliveries.
measure() {
  ${on_client_core[@]+"${on_client_core[@]}"} "$weir" bench --json --sources 1 --server-pid "$server" \
    fanout --connections "$connections" --rate "$rate" --seconds "$seconds" >"$work/$1.json"
  sed -n 's/.*"server_cpu_per_million": *\([0-9.]*\).*/\1/p' "$work/$1.json" | head -n 1
}

without() {
  weir_settings=()
  start_weir
  measure without
}

with() {
  weir_settings=(WEIR_TELEMETRY_OTLP_ENDPOINT="http://$collector" WEIR_TELEMETRY_SAMPLING=10%)
  start_weir
  ${on_client_core[@]+"${on_client_core[@]}"} "$rotel" start --exporter blackhole --otlp-http-endpoint "$collector" \
    --otlp-grpc-endpoint 127.0.0.1:24317 --pid-file "$work/rotel.pid" >"$work/rotel.log" 2>&1 &
  running+=("$!")
  local ops
  ops="$(field "$work/weir/ready" ops_listen)"
  (while sleep 1; do curl -sf "http://$ops/metrics" >/dev/null || true; done) &
  running+=("$!")
  measure with
}

printf '%-6s %10s %10s %8s\n' pair without with ratio
for pair in $(seq "$pairs"); do
  # Every other pair the other way round: what drifts falls on both.
  if [ $((pair % 2)) = 1 ]; then
    without >"$work/a" && with >"$work/b"
  else
    with >"$work/b" && without >"$work/a"
  fi
  awk -v pair="$pair" -v a="$(cat "$work/a")" -v b="$(cat "$work/b")" \
    'BEGIN { printf "%-6s %10.3f %10.3f %8.3f\n", pair, a, b, b / a }' | tee -a "$work/pairs"
done
stop_servers
sort -k 4 -n "$work/pairs" | awk '{ r[NR] = $4 } END { printf "median of the ratios: %.3f\n", (r[int((NR + 1) / 2)] + r[int((NR + 2) / 2)]) / 2 }'
