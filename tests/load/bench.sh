#!/usr/bin/env bash
# Loads a server of its own with `weir bench`: tests/load/bench.sh PROFILE quick|full [REPORT]
# quick: a short mix, passes when nothing was lost. full: every measurement beside the floor of this machine
# and, where nginx has it, nchan; the report goes to REPORT as Markdown.
set -euo pipefail
cd "$(dirname "$0")/../.."

weir="${CARGO_TARGET_DIR:-target}/$1/weir"
mode="$2"
report="${3:-/dev/null}"
work="$(mktemp -d)"
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# The server on one core, the client on another: else they take each other's time.
server_core=() client_core=()
if command -v taskset >/dev/null && [ "$(nproc)" -ge 2 ]; then
  server_core=(taskset -c 0) client_core=(taskset -c 1)
fi
# Connections are files; take what this user may.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

# field FILE NAME: a top-level text of a JSON object.
field() { sed -n 's/.*"'"$2"'": *"\([^"]*\)".*/\1/p' "$1" | head -n 1; }

export WEIR_DATA_DIR="$work/data"
WEIR_LISTEN=127.0.0.1:0 WEIR_OPS_LISTEN=127.0.0.1:0 WEIR_READY_FILE="$work/ready" WEIR_HUB_SHARDS=1 \
  WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND=100000 "${server_core[@]}" "$weir" serve >"$work/log" 2>&1 &
pids+=($!)
until [ -s "$work/ready" ]; do
  kill -0 "${pids[0]}" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.05
done
"$weir" bootstrap --tenant bench --project main --json >"$work/tenant"
WEIR_API_KEY="$(field "$work/tenant" api_key)"
WEIR_URL="http://$(field "$work/ready" listen)"
export WEIR_API_KEY WEIR_URL
unset WEIR_DATA_DIR

# bench ARGUMENTS: one measurement, on the screen and in the report.
bench() {
  printf '\n## weir bench %s\n```\n' "$*" >>"$report"
  "${client_core[@]}" "$weir" bench --server-pid "${pids[0]}" "$@" | tee -a "$report"
  printf '```\n' >>"$report"
}

# nginx with nchan, one worker on the server's core, as a peer.
nchan() {
  local module=/usr/lib/nginx/modules/ngx_nchan_module.so
  [ -e "$module" ] || return 0
  cat >"$work/nginx.conf" <<CONF
load_module $module;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 20000; }
http {
  access_log off;
  server {
    listen 127.0.0.1:18088;
    location /sub { nchan_subscriber websocket; nchan_channel_id bench; }
    location /pub { nchan_publisher http; nchan_channel_id bench; }
  }
}
CONF
  "${server_core[@]}" nginx -p "$work" -c "$work/nginx.conf"
  local master worker
  master="$(cat "$work/nginx.pid")"
  pids+=("$master")
  worker="$(pgrep -P "$master" | head -n 1)"
  printf '\n## nginx nchan: weir bench fanout %s\n```\n' "$*" >>"$report"
  "${client_core[@]}" "$weir" bench --server-pid "$worker" fanout "$@" --raw-url ws://127.0.0.1:18088/sub \
    --raw-publish-url http://127.0.0.1:18088/pub | tee -a "$report"
  printf '```\n' >>"$report"
}

if [ "$mode" = quick ]; then
  bench mixed --connections 500 --rate 500 --seconds 10
  exit
fi

{
  echo "# Bench report"
  echo
  echo "$(date -u +%F), $(uname -srm), $(sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $(nproc) cores"
} >"$report"
connections=10000
[ "$(ulimit -n)" -ge 11000 ] || connections=$(($(ulimit -n) - 500))
for rate in 10 200; do
  bench fanout --connections "$connections" --rate "$rate" --floor
  bench fanout --connections "$connections" --rate "$rate" --sse
  nchan --connections "$connections" --rate "$rate"
done
bench connections --connections "$connections"
bench connections --connections "$connections" --sse
bench publish --connections 256
bench publish --connections 64 --batch 100
bench latency --rate 5000
bench replay
echo "the report is in $report"
