#!/usr/bin/env bash
# The API against the document that it serves: see openapi.py.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${WEIR_TEST_BINARY:-}" ]; then
  # What `cargo test --workspace` has linked; this only makes sure of it.
  cargo build --quiet --workspace --bin weir --test cli
  WEIR_TEST_BINARY="${CARGO_TARGET_DIR:-$PWD/target}/debug/weir"
fi
python3 tests/openapi.py "$WEIR_TEST_BINARY"
