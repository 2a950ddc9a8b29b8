#!/usr/bin/env bash
# Makes .venv from the locked set and installs the programs that come from Debian.
# Safe to run again: does nothing where everything is in place.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 69; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo "$@"
  else return 1
  fi
}

debian() { # packages: installs what is missing, or says what to install
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing from Debian: ${missing[*]}"
  as_root apt-get update -qq >/dev/null \
    && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
    || fail "these are needed and could not be installed: run 'apt-get install ${missing[*]}' as root, then try again"
}

python=""
for candidate in python3.11 python3.12 python3; do
  command -v "$candidate" >/dev/null || continue
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "no Python 3.11 or 3.12 on the PATH: install Debian's package python3"

command -v prometheus >/dev/null && command -v promtool >/dev/null || debian prometheus
command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || debian prometheus-alertmanager

lock=requirements/dev.txt
stamp=.venv/.installed
state=$(cat "$lock" pyproject.toml | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then exit 0; fi

if [ ! -x .venv/bin/python ] || [ ! -x .venv/bin/uv ]; then
  say "Making .venv with $python"
  rm -rf .venv
  "$python" -c 'import ensurepip' 2>/dev/null || debian python3-venv
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^uv==' "$lock")"
fi
say "Installing $(grep -c '==' "$lock") locked packages (torch is the large part)"
# Compiled here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would
# compile what it imports again, which is two thirds of a predictor's start.
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python "$lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
printf '%s' "$state" >"$stamp"
