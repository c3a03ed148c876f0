#!/usr/bin/env bash
# Subscribers, publishers and readers at once on a server of its own: tests/load/load.sh PROFILE
# Passes when nothing was lost. CONNECTIONS, RATE and DURATION (seconds) say how much.
set -euo pipefail
cd "$(dirname "$0")/../.."

weir="${CARGO_TARGET_DIR:-target}/$1/weir"
# shellcheck source=tests/load/servers.sh
. tests/load/servers.sh

start_weir
${on_client_core[@]+"${on_client_core[@]}"} "$weir" bench --server-pid "$server" mixed --connections "${CONNECTIONS:-1000}" \
  --rate "${RATE:-500}" --seconds "${DURATION:-10}"
