#!/usr/bin/env bash
# Prints the path of a Python that has requirements.txt beside this file, each package of the pinned version and SHA-256, in a virtual
# environment in the user's cache directory, made when it is missing or the requirements have changed. run.sh and the oracle use it.
#
#   SIROCCO_CACHE   where the environment is kept, shared by every clone (default: ~/.cache/sirocco)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${SIROCCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sirocco}
version=$(sha256sum "$here/requirements.txt" | cut -c 1-16)
venv=$cache/python-signing-$version
if [ ! -e "$venv/complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.python-signing.lock"
  flock 9 # two clones that start at once install once
  if [ ! -e "$venv/complete" ]; then
    echo "python.sh: installing the reference implementation of OpenSSF Model Signing into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv" >&2 || { echo "python.sh: python3 -m venv failed: install python3-venv" >&2; exit 5; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt" >&2
    touch "$venv/complete"
  fi
fi
echo "$venv/bin/python"
