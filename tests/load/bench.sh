#!/usr/bin/env bash
# Measures Weir, the floor of this machine and, where it is installed, nginx nchan, in one run:
# tests/load/bench.sh PROFILE. QUICK=1 is the short form. report.md and report.json go to
# $CARGO_TARGET_DIR/bench-report, beside what each measurement said. Fails when Weir lost something.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile="$1"
target="${CARGO_TARGET_DIR:-target}"
weir="$target/$profile/weir"
out="$target/bench-report"
# shellcheck source=tests/load/servers.sh
. tests/load/servers.sh

rm -rf "$out"
mkdir -p "$out"
subscribers=10000 idle=18000
files="$(ulimit -n)"
[ "$files" = unlimited ] || [ "$files" -ge $((subscribers + 1000)) ] || subscribers=$((files - 1000))
[ "$files" = unlimited ] || [ "$files" -ge $((idle + 1000)) ] || idle=$((files - 1000))
if [ -n "${QUICK:-}" ]; then
  slow=5 fast=3 peer_fast=1 short=4 criterion=(--quick)
else
  slow=10 fast=10 peer_fast=2 short=10 criterion=(--warm-up-time 0.3 --measurement-time 1)
fi

# measure NAME ARGUMENTS: one run of the client; what it says goes to NAME.json, how it was called to NAME.command.
measure() {
  local name="$1"
  shift
  local command=(${on_client_core[@]+"${on_client_core[@]}"} "$weir" bench --json --sources 1 "$@")
  printf '%-24s' "$name" >&2
  printf '%s\n' "${command[*]}" >"$out/$name.command"
  cut -d ' ' -f 1 /proc/loadavg >"$out/$name.load" 2>/dev/null || true
  if timeout 120 "${command[@]}" >"$out/$name.json" 2>"$out/$name.error"; then
    echo ok >&2
  else
    echo "NOT GOOD $(tail -n 1 "$out/$name.error")" >&2
  fi
}

# of_server NAME ARGUMENTS: the same, with the CPU time and memory of the running server.
of_server() {
  local name="$1"
  shift
  measure "$name" --server-pid "$server" "$@"
}

micro() {
  echo "criterion: key, fanout, limits, log" >&2
  touch "$out/criterion-began"
  timeout 900 cargo bench --quiet --profile "$profile" -p weir-core -p weir-hub -p weir-engine -p weir-log \
    --bench key --bench fanout --bench limits --bench log -- "${criterion[@]}" >"$out/criterion.log" 2>&1 ||
    { echo "the criterion benches failed:" >&2; tail -n 5 "$out/criterion.log" >&2; }
}

# fan_out RATE SECONDS: both transports, and between them the bare sends that no server can beat.
fan_out() {
  start_weir
  of_server "ws-$1" fanout --connections "$subscribers" --rate "$1" --seconds "$2"
  measure "floor-$1" floor --connections "$subscribers" --rate "$1" --seconds "$2" --frame "$(frame "ws-$1")" \
    ${server_core:+--server-core "$server_core"}
  of_server "sse-$1" fanout --connections "$subscribers" --rate "$1" --seconds "$2" --sse
}

# frame NAME: bytes of a frame on the wire in that measurement, so that the floor sends as much.
frame() { sed -n 's/.*"frame":\([0-9]*\).*/\1/p' "$out/$1.json" | grep . || echo 420; }

# peer RATE SECONDS: the same load on nchan.
peer() {
  local transport scheme sse
  for transport in ws sse; do
    scheme=ws sse=()
    if [ "$transport" = sse ]; then
      [ -z "${QUICK:-}" ] || continue
      scheme=http sse=(--sse)
    fi
    start_nchan || { echo "nchan: skipped, nginx with its nchan module is not installed" | tee "$out/nchan-skipped" >&2; return; }
    of_server "nchan-$transport-$1" fanout --connections "$subscribers" --rate "$1" --seconds "$2" \
      ${sse[@]+"${sse[@]}"} --raw-url "$scheme://$nchan/$transport" --raw-publish-url "http://$nchan/pub"
  done
}

# A fresh server each: memory that an earlier load left would hide what a connection takes.
memory() {
  start_weir
  of_server idle-ws connections --connections "$idle" --seconds 3
  start_weir
  of_server idle-sse connections --connections "$idle" --seconds 3 --sse
}

requests() {
  start_weir
  of_server publish publish --connections 256 --seconds "$short"
  of_server publish-batch publish --connections 64 --batch 100 --seconds "$short"
  of_server replay replay --seconds "$short"
  start_weir
  of_server latency latency --rate 5000 --seconds "$short"
  of_server resume resume --connections "$subscribers"
  of_server graphql graphql --connections "$((subscribers / 5))" --rate 20 --seconds "$short" --turns 2
}

# Three nodes on PostgreSQL and three NATS servers, which sync every write. They share this machine with the client: seven
# processes on one of its cores would measure the scheduler.
cluster() {
  local on_server_core=() on_client_core=()
  start_cluster 3
  measure revoke revoke --connections "$subscribers" "${nodes[@]/#/--node=}"
  measure cluster-publish publish --connections 256 --seconds "$short"
  measure cluster-publish-batch publish --connections 64 --batch 100 --seconds "$short"
  measure cluster-latency latency --rate 1000 --seconds "$short"
  stop_cluster
}

# How long a killed server takes until it is ready again, beside what it keeps.
reopen() {
  start_weir
  of_server reopen-fill publish --connections 64 --batch 100 --payload 1024 --seconds "$short"
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
  local bytes begun took
  bytes="$(du -sk "$work/weir/data" | awk '{ print $1 * 1024 }')"
  begun="$(date +%s%N)"
  launch_weir
  took=$(($(date +%s%N) - begun))
  printf 'killed after reopen-fill, started again\n' >"$out/reopen.command"
  awk -v took="$took" -v bytes="$bytes" 'BEGIN {
    printf "{\"bench\":\"reopen\",\"good\":true,\"results\":{\"kept\":%d,\"seconds\":%.3f,\"seconds_per_gb\":%.3f}}\n",
      bytes, took / 1e9, took / bytes }' >"$out/reopen.json"
}

fan_out 10 "$slow"
peer 10 "$slow"
fan_out 200 "$fast"
peer 200 "$peer_fast"
memory
requests
reopen
stop_servers
cluster
micro
python3 tests/load/report.py "$out" "$target/criterion" "$weir" "$(stat -f -c %T "$work" 2>/dev/null || echo unknown)"
