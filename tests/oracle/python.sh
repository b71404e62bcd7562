#!/usr/bin/env bash
# Prints the path of a Python that has requirements.txt: $SIROCCO_PYTHON as it is, or a virtual environment in the user's cache directory, made or
# brought up to date when needed. `make oracle`, tests/interop/run.sh and the peer benchmark use it; building and testing Sirocco do not.
#
#   SIROCCO_PYTHON  an interpreter to use instead; it must have the packages already
#   SIROCCO_CACHE   where the environment is kept, shared by every clone (default: ~/.cache/sirocco)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${SIROCCO_PYTHON:-}" ]; then
  command -v "$SIROCCO_PYTHON" || { echo "python.sh: SIROCCO_PYTHON is $SIROCCO_PYTHON, which is not a program" >&2; exit 5; }
  exit 0
fi
cache=${SIROCCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sirocco}
venv=$cache/python

# Whether every pinned line of requirements.txt is installed in exactly that version.
complete() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" - "$here/requirements.txt" <<'PYTHON'
import importlib.metadata, sys
for line in open(sys.argv[1], encoding="utf-8"):
    name, _, version = line.split("#")[0].strip().partition("==")
    try:
        if name and importlib.metadata.version(name) != version:
            sys.exit(1)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(1)
PYTHON
}

if ! complete; then
  mkdir -p "$cache"
  exec 9>"$cache/.python.lock"
  flock 9 # two clones that start at once install once
  if ! complete; then
    echo "python.sh: installing PyTorch, Transformers and PEFT into $venv, once for every clone" >&2
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2 || { echo "python.sh: python3 -m venv failed: install python3-venv" >&2; exit 5; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
  fi
fi
echo "$venv/bin/python"
