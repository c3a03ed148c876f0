#!/usr/bin/env bash
# WebSocket conformance: the hub's codec, behind an echo server, against the kosoku suite (the Autobahn cases).
# Compression cases are left out: permessage-deflate is not offered.
set -euo pipefail
cd "$(dirname "$0")/.."

work="$(mktemp -d)"
server=""
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

# Big messages and 500-byte chops are slow without optimisation; the example is all that is rebuilt for it.
cargo build --quiet --workspace --example echo
"${CARGO_TARGET_DIR:-target}/debug/examples/echo" 127.0.0.1:0 >"$work/address" &
server=$!
until [ -s "$work/address" ]; do
  kill -0 "$server" || { echo "the echo server did not start" >&2; exit 1; }
  sleep 0.05
done

kosoku -m fuzzingclient -p 2 -x '12.*' -x '13.*' -o "$work/report" "$(cat "$work/address")" >"$work/log" 2>&1 ||
  { tail -n 40 "$work/log" >&2; exit 1; }

python3 - "$work/report" <<'PY'
import json, pathlib, sys

cases = [
    (name, case["behavior"], case["behaviorClose"])
    for index in pathlib.Path(sys.argv[1]).rglob("index.json")
    for agent in json.loads(index.read_text()).values()
    for name, case in agent.items()
]
good = {"OK", "NON-STRICT", "INFORMATIONAL"}
bad = [case for case in cases if case[1] not in good or case[2] not in good]
for case in bad:
    print("kosoku: case %s: %s, close %s" % case)
print("kosoku: %d passed, %d failed" % (len(cases) - len(bad), len(bad)))
sys.exit(1 if bad or len(cases) < 200 else 0)
PY
