# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # some names are for the scripts that source this, `weir` comes from them
# The servers that the load scripts measure: sourced by them. Takes `$weir`, the binary; gives `$server`, the
# process to measure, and for Weir WEIR_URL and WEIR_API_KEY. Whatever it starts ends with the script.

# More settings of the servers that are started from now on, NAME=value.
weir_settings=()
work="$(mktemp -d "${WEIR_BENCH_DIR:-${TMPDIR:-/tmp}}/weir-load.XXXXXX")"
running=()
server=
trap 'stop_servers; rm -rf "$work"' EXIT

# Server and client on a core each: else they take each other's time.
on_server_core=() on_client_core=() server_core=
if command -v taskset >/dev/null && [ "$(nproc)" -ge 2 ]; then
  server_core=0
  on_server_core=(taskset -c 0) on_client_core=(taskset -c 1)
fi
# Connections are files: take what this user may.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

stop_servers() {
  local pid
  for pid in ${running[@]+"${running[@]}"}; do kill "$pid" 2>/dev/null || true; done
  # Some have a drain of seconds; what they keep is thrown away.
  sleep 0.2
  for pid in ${running[@]+"${running[@]}"}; do
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  running=()
}

# field FILE NAME: a text of a small JSON object.
field() { sed -n 's/.*"'"$2"'": *"\([^"]*\)".*/\1/p' "$1" | head -n 1; }

# A server with empty data, one hub thread and no bound on new connections.
start_weir() {
  stop_servers
  local home="$work/weir"
  rm -rf "$home"
  mkdir "$home"
  launch_weir
  WEIR_DATA_DIR="$home/data" "$weir" bootstrap --tenant bench --project main --json >"$home/tenant"
  WEIR_API_KEY="$(field "$home/tenant" api_key)"
  export WEIR_API_KEY
}

# The same with the data that are there.
launch_weir() {
  local home="$work/weir"
  rm -f "$home/ready"
  local settings=(WEIR_DATA_DIR="$home/data" WEIR_HUB_SHARDS=1 WEIR_LIMITS_NEW_CONNECTIONS_PER_SECOND=0
    WEIR_LISTEN=127.0.0.1:0 WEIR_OPS_LISTEN=127.0.0.1:0 WEIR_READY_FILE="$home/ready")
  env "${settings[@]}" ${weir_settings[@]+"${weir_settings[@]}"} ${on_server_core[@]+"${on_server_core[@]}"} "$weir" serve >"$home/log" 2>&1 &
  server=$!
  running+=("$server")
  await_file "$home/ready" "$home/log"
  WEIR_URL="http://$(field "$home/ready" listen)"
  export WEIR_URL
}

# start_cluster NODES: as many nodes on PostgreSQL and three NATS servers, all of it started by the test kit. Gives
# WEIR_URL, WEIR_API_KEY and `$nodes`, the URLs. The servers end when descriptor 9 is closed.
start_cluster() {
  stop_servers
  # Apart from the start, which waits for servers only; and on all cores.
  cargo build --quiet -p weir-testkit --example cluster
  rm -f "$work/cluster" "$work/cluster-in"
  mkfifo "$work/cluster-in"
  WEIR_TEST_BINARY="$(realpath "$weir")" ${on_server_core[@]+"${on_server_core[@]}"} \
    "${CARGO_TARGET_DIR:-target}/debug/examples/cluster" "$1" \
    <"$work/cluster-in" >"$work/cluster" 2>"$work/cluster-log" &
  server=$!
  exec 9>"$work/cluster-in"
  await_file "$work/cluster" "$work/cluster-log"
  WEIR_API_KEY="$(field "$work/cluster" api_key)"
  read -r -a nodes <<<"$(grep -o 'http://[0-9.:]*' "$work/cluster" | tr '\n' ' ')"
  WEIR_URL="${nodes[0]}"
  export WEIR_API_KEY WEIR_URL
}

stop_cluster() {
  exec 9>&-
  wait "$server" || true
}

# await_file FILE LOG: until `$server` has written the file; its log when it ends instead.
await_file() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    [ -s "$1" ] && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
  done
  echo "the server did not start:" >&2
  cat "$2" >&2
  exit 1
}

nchan_module() {
  local directory
  for directory in /usr/lib/nginx/modules /usr/lib64/nginx/modules /usr/share/nginx/modules; do
    [ -e "$directory/ngx_nchan_module.so" ] && { echo "$directory/ngx_nchan_module.so"; return; }
  done
  return 1
}

# The peer: nginx with nchan, one worker. Gives `$nchan`, its host and port; fails when it is not installed.
start_nchan() {
  local module home="$work/nchan" port
  command -v nginx >/dev/null && module="$(nchan_module)" || return 1
  stop_servers
  rm -rf "$home"
  mkdir "$home"
  port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  nchan="127.0.0.1:$port"
  nchan_settings "$module" "$home" >"$home/nginx.conf"
  ${on_server_core[@]+"${on_server_core[@]}"} nginx -p "$home" -c "$home/nginx.conf" 2>"$home/start.log" &
  server=$!
  running+=("$server")
  await_file "$home/pid" "$home/start.log"
  # The master only watches; the worker works.
  until server="$(pgrep -P "${running[0]}" | head -n 1)" && [ -n "$server" ]; do sleep 0.05; done
}

# nchan_settings MODULE HOME
nchan_settings() {
  cat <<CONF
load_module $1;
daemon off;
worker_processes 1;
pid $2/pid;
error_log $2/error.log;
events { worker_connections 15000; }
http {
  access_log off;
  client_body_temp_path $2/body;
  proxy_temp_path $2/proxy;
  fastcgi_temp_path $2/fastcgi;
  uwsgi_temp_path $2/uwsgi;
  scgi_temp_path $2/scgi;
  server {
    listen $nchan;
    location /ws { nchan_subscriber websocket; nchan_channel_id bench; }
    location /sse { nchan_subscriber eventsource; nchan_channel_id bench; }
    location /pub { nchan_publisher http; nchan_channel_id bench; }
  }
}
CONF
}
