#!/usr/bin/env bash
# Does the reference implementation of OpenSSF Model Signing accept our signatures, and do we accept its? Does a reference library of in-toto
# read our statements? Needs Python 3.11 or newer and, the first time, a network; not part of `make test`.
#
#   crates/signing/tests/interop/run.sh            compares; exits with 0 when all agree
#   crates/signing/tests/interop/run.sh --oracle   writes tests/oracle/ again, with new keys
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/python.sh")
if [ "${1:-}" = --oracle ]; then
  exec "$python" "$here/make_oracle.py" "$here/../oracle"
fi
cd "$here"
cargo build --release --locked --quiet -p sirocco-signing --example sign
target=$(cargo metadata --format-version 1 --no-deps --offline | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec "$python" "$here/compare.py" "$target/release/examples/sign"
