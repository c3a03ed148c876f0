#!/usr/bin/env bash
# Files made from code: tests/generated.sh check | write
set -euo pipefail
cd "$(dirname "$0")/.."

# One line per file: the file, then the arguments of `weir` that print it.
files() {
  echo "docs/openapi.json openapi"
  echo "docs/schema.graphql schema"
  echo "docs/errors.md errors"
  echo "docs/permissions.md permissions"
  echo "docs/metrics.md metrics"
}

# The same selection of packages and features as `cargo test --workspace`, so nothing is built twice.
cargo build --quiet --workspace --bin weir --test cli
weir="${CARGO_TARGET_DIR:-target}/debug/weir"

fresh="$(mktemp)"
trap 'rm -f "$fresh"' EXIT
failed=0
while read -r file arguments; do
  # shellcheck disable=SC2086 # a list of arguments
  "$weir" $arguments >"$fresh"
  if [ "$1" = write ]; then
    cp "$fresh" "$file"
  elif ! diff -u "$file" "$fresh" >&2; then
    echo "$file is not what \`weir $arguments\` prints: run \`make generate\` and commit the result" >&2
    failed=1
  fi
done < <(files)
python3 deploy/observability/grafana/dashboards.py "$1" || failed=1
exit "$failed"
