#!/usr/bin/env bash
# Runs libFuzzer on the targets of fuzz_targets, one after the other: fuzz/run.sh SECONDS [TARGET…]
# Works with the pinned stable compiler: RUSTC_BOOTSTRAP lets it pass the flags of LLVM's coverage that cargo-fuzz would pass to a nightly.
# It begins with seeds/TARGET; what it learns, and what it finds, stays in the target folder.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:?usage: fuzz/run.sh SECONDS [TARGET…]}"
shift
[ $# -gt 0 ] || set -- websocket cursor topic key event webhook

work="${CARGO_TARGET_DIR:-$PWD/../target}/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"
passes="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  passes="$passes -Cllvm-args=-sanitizer-coverage-$option"
done
# --target keeps the flags from build scripts and procedural macros.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks $passes" \
  cargo build --quiet --release --bins --target "$host" --target-dir "$work"

for target in "$@"; do
  mkdir -p "$work/corpus/$target" "$work/found"
  echo "fuzz: $target for $seconds s"
  "$work/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$work/found/$target-" "$work/corpus/$target" "seeds/$target" >"$work/$target.log" 2>&1 ||
    { tail -n 40 "$work/$target.log" >&2; echo "fuzz: $target failed; the input is in $work/found" >&2; exit 1; }
  grep -E '^stat::(number_of_executed_units|peak_rss_mb)|DONE' "$work/$target.log"
done
