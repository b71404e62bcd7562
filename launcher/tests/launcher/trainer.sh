#!/bin/sh
# A trainer of shell: what the launcher needs to see of sirocco-train.
set -u
job=${1:-}
dir= until=0 comm=solo
while [ $# -gt 0 ]; do
  case "$1" in
    --dir) dir=$2; shift ;;
    --until) until=$2; shift ;;
    --comm) comm=$2; shift ;;
  esac
  shift
done
rank=${OMPI_COMM_WORLD_RANK:-0}
size=${OMPI_COMM_WORLD_SIZE:-1}
# step N LOSS [MORE]: MORE is text such as ,"skipped":true
step() {
  [ "$rank" = 0 ] || return 0
  printf '{"step":%s,"loss":%s,"target_tokens":10,"tokens":20,"grad_norm":1.0,"learning_rate":0.1,"seconds":0.5,"tokens_per_s":40.0,"peak_memory_bytes":1000000%s}\n' "$1" "$2" "${3:-}" >>"$dir/metrics.jsonl"
}
# valid STEPS LOSS: an evaluation after that many steps
valid() {
  [ "$rank" = 0 ] || return 0
  printf '{"step":%s,"valid_loss":%s}\n' "$1" "$2" >>"$dir/metrics.jsonl"
}
checkpoint() {
  [ "$rank" = 0 ] || return 0
  name=$(printf 'step-%08d' "$1")
  mkdir -p "$dir/checkpoints/$name"
  printf '%s\n' "$name" >"$dir/checkpoints/LATEST"
}
# The sign that signals are handled from now on: the log, which a rank opens only then.
ready() {
  mkdir -p "$dir/logs"
  echo ready >>"$(printf '%s/logs/rank-%05d.log' "$dir" "$rank")"
}
