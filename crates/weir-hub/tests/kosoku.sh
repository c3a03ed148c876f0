#!/bin/sh
# Runs the WebSocket conformance suite `kosoku` (kosoku==0.1.0 from PyPI) against the hub's codec and
# sockets, and fails on any case that is not strictly conformant. Compression (12.*, 13.*) is not offered.
# usage: kosoku.sh [ECHO_BINARY]   KOSOKU names the program when it is not on the path.
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
echo_pid=
stop() {
    if [ -n "$echo_pid" ]; then kill "$echo_pid" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 1' INT TERM

if [ $# -gt 0 ]; then
    binary=$1
else
    (cd "$root" && cargo build --quiet -p weir-hub --example echo)
    binary=${CARGO_TARGET_DIR:-$root/target}/debug/examples/echo
fi

# The echo server prints its address once it listens.
mkfifo "$work/address"
"$binary" 127.0.0.1:0 >"$work/address" &
echo_pid=$!
read -r address <"$work/address"

"${KOSOKU:-kosoku}" -p 4 -x '12.*' -x '13.*' -o "$work/report" "$address"

python3 - "$work/report/index.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as report:
    (cases,) = json.load(report).values()
good = {"OK", "INFORMATIONAL"}
bad = {name: case for name, case in cases.items() if {case["behavior"], case["behaviorClose"]} - good}
for name, case in sorted(bad.items()):
    print(f"{name}: {case['behavior']}, close {case['behaviorClose']}")
print(f"{len(cases) - len(bad)} of {len(cases)} cases are strictly conformant")
sys.exit(1 if bad or len(cases) < 301 else 0)
PYTHON
