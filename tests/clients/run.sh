#!/usr/bin/env bash
# Third-party clients against a real server; the clients are installed into node_modules here.
set -euo pipefail
cd "$(dirname "$0")"

if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --silent --no-audit --no-fund --ignore-scripts
  cp package-lock.json node_modules/.installed
fi

if [ -z "${WEIR_TEST_BINARY:-}" ]; then
  # What `cargo test --workspace` has linked; this only makes sure of it.
  (cd ../.. && cargo build --quiet --workspace --bin weir --test cli)
  WEIR_TEST_BINARY="${CARGO_TARGET_DIR:-$PWD/../../target}/debug/weir"
  export WEIR_TEST_BINARY
fi
npm test --silent
