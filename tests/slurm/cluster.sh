#!/usr/bin/env bash
# A real Slurm cluster on one machine, for tests: a controller and nodes n1, n2, …, each with its own network, host name, processes
# and shared memory. Nothing but DIR is written to, and several clusters know nothing of each other.
#
#   cluster.sh DIR up [--until-eof]   start it; with --until-eof it ends when standard input does, whatever ended that
#   cluster.sh DIR down               end it; harmless where there is none
#   cluster.sh DIR run COMMAND…       run a command where sbatch, srun, scontrol and sinfo reach the controller
#   cluster.sh DIR fail NODE          a power cut: the node says nothing any more, not even that its connections are closed
#   cluster.sh DIR recover NODE       switch it on again, with nothing on its local disk
#
# NODES, CPUS and GPUS in the environment of `up` say how many there are and what each has; the GPUs can be asked for, but not used.
# PATIENCE says after how many seconds Slurm takes a node for dead that says nothing, KILL_WAIT how long it lets processes end by themselves.
# ACCOUNTING=1 gives it accounts that are kept and limits that hold, by slurmdbd and MariaDB (accounting.sh).
# Needs root, Slurm, munge, iproute2 and util-linux; neither systemd nor cgroups. Every process lives below process 1 of a namespace
# of its own (`controller`), and the kernel ends all of them with that one: nothing can be left over.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '5,9s/^# *//p' "$0" >&2; exit 2; }
self=$(realpath -- "$0")
dir=$(realpath -m -- "$1")
action=$2
shift 2
case $dir in *[[:space:],%]*) echo "cluster.sh: slurm.conf cannot name the directory $dir" >&2; exit 2 ;; esac

NODES=${NODES:-4} CPUS=${CPUS:-2} GPUS=${GPUS:-4} PATIENCE=${PATIENCE:-10} KILL_WAIT=${KILL_WAIT:-5} ACCOUNTING=${ACCOUNTING:-}
network=10.77.0
export SLURM_CONF=$dir/slurm.conf
# shellcheck source=tests/slurm/accounting.sh
source "$(dirname -- "$self")/accounting.sh"

# --- What stands in DIR ----------------------------------------------------------------------------------------------------------

write_files() {
  local i gres=""
  mkdir -p "$dir"/{state,log,run,dev}
  printf '127.0.0.1 localhost\n%s.254 ctl\n' $network >"$dir/hosts"
  : >"$dir/gres.conf"
  if [ "$GPUS" -gt 0 ]; then
    gres=" Gres=gpu:fake:$GPUS"
    for i in $(seq 0 $((GPUS - 1))); do [ -e "$dir/dev/gpu$i" ] || mknod "$dir/dev/gpu$i" c 1 3; done
    printf 'AutoDetect=off\nName=gpu Type=fake File=%s/dev/gpu[0-%s]\n' "$dir" $((GPUS - 1)) >"$dir/gres.conf"
  fi
  cat >"$SLURM_CONF" <<E
ClusterName=test
SlurmctldHost=ctl($network.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# After this many seconds, not 120, a job that lost a node may start again.
AuthInfo=cred_expire=5,socket=$dir/run/munge
MpiDefault=none
# None of these needs cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# More CPUs than this machine has are no fault.
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
GresTypes=gpu
MailProg=/bin/true
ReturnToService=2
JobRequeue=1
MinJobAge=86400
SlurmdTimeout=$PATIENCE
KillWait=$KILL_WAIT
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
SlurmctldPort=6817
SlurmdPort=6818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/nodes/%n/spool
TmpFS=$dir/nodes/%n/tmp
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
E
  for i in $(seq "$NODES"); do
    echo "$network.$i n$i" >>"$dir/hosts"
    echo "NodeName=n$i NodeAddr=$network.$i CPUs=$CPUS$gres State=UNKNOWN" >>"$SLURM_CONF"
  done
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP" >>"$SLURM_CONF"
  accounting_files
}

# --- Process 1 of the controller and of each node ---------------------------------------------------------------------------------

# Everything of its own, and a process 1 whose end ends the rest.
apart() { exec setsid unshare --net --uts --ipc --mount --pid --fork --kill-child --mount-proc bash "$self" "$dir" "$@"; }

# Ends what the process, which is an unshare, keeps apart; it ends itself when the last of them is gone.
end_all_of() { # PROCESS
  local below=/proc/$1/task/$1/children child
  for _ in $(seq 500); do
    child=$(cat "$below" 2>/dev/null) || return 0
    [ -n "$child" ] || return 0
    # Whether it is gone is seen in the next round, however this one went.
    if kill -9 "$child" 2>/dev/null; then :; fi
    sleep 0.02
  done
  echo "cluster.sh: process $1 does not end" >&2
  exit 1
}

controller() { # [--until-eof]
  hostname ctl
  mount --bind "$dir/hosts" /etc/hosts
  ip link set lo up
  ip link add bridge type bridge
  ip addr add $network.254/24 dev bridge
  ip link set bridge up
  mkdir -m 700 "$dir/munge"
  head -c 1024 /dev/urandom >"$dir/munge/key"
  chmod 600 "$dir/munge/key"
  # --force: it need not mind that only root can reach the socket.
  munged --force --key-file="$dir/munge/key" --socket="$dir/run/munge" --pid-file="$dir/munge/pid" \
    --seed-file="$dir/munge/seed" --log-file="$dir/log/munged.log" </dev/null
  [ -z "$ACCOUNTING" ] || keep_accounts
  slurmctld </dev/null
  touch "$dir/run/ready"
  if [ "${1:-}" = --until-eof ]; then cat >/dev/null; else while :; do sleep 3600; done; fi
}

node() { # NODE
  hostname "$1"
  mount -t tmpfs tmpfs /dev/shm
  [ ! -d "$dir/counters" ] || show_counters
  ip link set lo up
  until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done # `start` gives it one
  ip addr add "$network.${1#n}/24" dev eth0
  ip link set eth0 up
  slurmd -D -N "$1" &
  wait $!
}

# --- What happens among the controller's processes, where recorded ids mean nothing else ------------------------------------------

start() { # NODE
  [ ! -e "$dir/run/$1.pid" ] || { echo "cluster.sh: $1 is up" >&2; exit 1; }
  rm -rf "${dir:?}/nodes/$1" # what a killed node left would be in the way of a job that comes back
  mkdir -p "$dir/nodes/$1"/{spool,tmp}
  (apart node "$1") </dev/null >"$dir/log/$1.out" 2>&1 &
  local process=$!
  echo $process >"$dir/run/$1.pid"
  while [ "$(readlink /proc/$process/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
  ip link add "$1" type veth peer name eth0 netns $process
  ip link set "$1" master bridge up
}

stop() { # NODE
  [ -e "$dir/run/$1.pid" ] || { echo "cluster.sh: $1 is not up" >&2; exit 1; }
  ip link del "$1" # first: the end of its processes must not be heard
  end_all_of "$(cat "$dir/run/$1.pid")"
  rm "$dir/run/$1.pid"
}

start_all() { # HOW_MANY
  local i
  for i in $(seq "$1"); do start "n$i"; done
  local end=$((SECONDS + 30)) # a controller that is gone keeps sinfo waiting
  while [ "$SECONDS" -lt "$end" ]; do
    [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" != "$1" ] || return 0
    sleep 0.1
  done
  { echo "cluster.sh: not every node is idle"; sinfo -N; tail -n 5 "$dir"/log/*; } >&2
  exit 1
}

# --- What is seen from outside ---------------------------------------------------------------------------------------------------

# The process that keeps the cluster's namespaces; nothing where it is gone, or another has its number.
keeper() {
  local process
  process=$(cat "$dir/run/keeper.pid" 2>/dev/null) || return 0
  tr '\0' ' ' 2>/dev/null <"/proc/$process/cmdline" | grep -qF " $dir controller" && echo "$process"
  return 0
}

inside() { # COMMAND…
  local process
  process=$(keeper)
  [ -n "$process" ] || { echo "cluster.sh: no cluster in $dir" >&2; exit 1; }
  local ns="/proc/$process/ns"
  # Another root would be another working directory: it is entered again.
  exec nsenter --net="$ns/net" --uts="$ns/uts" --ipc="$ns/ipc" --mount="$ns/mnt" --pid="$ns/pid_for_children" \
    env --chdir="$PWD" "$@"
}

up() { # [--until-eof]
  [ -e "$SLURM_CONF" ] || [ -z "$(ls -A "$dir" 2>/dev/null)" ] || { echo "cluster.sh: $dir holds something else" >&2; exit 2; }
  down
  rm -rf "${dir:?}"/{state,log,run,dev,munge,nodes,database,counters}
  write_files
  (apart controller "$@") <&0 >"$dir/log/controller.out" 2>&1 &
  echo $! >"$dir/run/keeper.pid"
  for _ in $(seq 200); do
    [ ! -e "$dir/run/ready" ] || break
    sleep 0.05
  done
  [ -e "$dir/run/ready" ] || { tail -n 5 "$dir"/log/* >&2; exit 1; }
  (inside bash "$self" "$dir" start_all "$NODES")
}

down() {
  local process
  process=$(keeper)
  [ -z "$process" ] || end_all_of "$process"
}

case $action in
  up) up "$@" ;;
  down) down ;;
  run) inside "$@" ;;
  fail) inside bash "$self" "$dir" stop "$1" ;;
  recover) inside bash "$self" "$dir" start "$1" ;;
  controller) controller "$@" ;;
  node) node "$@" ;;
  start | stop | start_all) "$action" "$1" ;;
  *) exec "$self" ;;
esac
