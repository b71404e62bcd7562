#!/usr/bin/env bash
# Checks what others make of Sirocco's files and of its server: Transformers, PEFT and the official openai client, in a virtual environment that
# tests/oracle/python.sh makes in the user's cache directory (SIROCCO_PYTHON names another interpreter). Needs what `make demo` leaves behind.
#
#   tests/interop/run.sh [--bin DIR] [--model DIR] [--adapter DIR] [--merged DIR] [--chat FILE]
#
# Every script prints what it compared and the largest difference. Exits with 0 when all of it agrees.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/../oracle/python.sh") || exit $?
status=0
for script in chat_tokens logits openai_client; do
  echo "== tests/interop/$script.py"
  "$python" "$here/$script.py" "$@" || status=$?
done
exit $status
