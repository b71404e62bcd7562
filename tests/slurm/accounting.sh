# The accounts of a test cluster: slurmdbd and MariaDB among the controller's processes, in memory, for no longer than the cluster. Read by
# cluster.sh, which also says the same of a cluster without.
#
# Account `dune` is root's own, with QOS `normal` (60 minutes, 3 nodes of a job) and `short` (10 minutes, 2 nodes of a user); `reef` may use
# `short` alone; `cliff` is nobody's. Partition `main` takes all of them, `fenced` only `reef`, for 20 minutes and on one node. Nothing counts energy, until AcctGatherEnergyType is made to
# read the counters of show_counters.

accounting_files() {
  if [ -z "$ACCOUNTING" ]; then
    printf 'JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n' >>"$SLURM_CONF"
    return
  fi
  cat >>"$SLURM_CONF" <<E
PartitionName=fenced Nodes=ALL MaxTime=20 MaxNodes=1 AllowAccounts=reef State=UP
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AcctGatherEnergyType=acct_gather_energy/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStoragePort=6819
# Its munge, which AuthInfo names for everything but this.
AccountingStoragePass=$dir/run/munge
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
E
  cat >"$dir/slurmdbd.conf" <<E
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge
DbdHost=ctl
DbdPort=6819
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3306
StorageUser=root
StorageLoc=accounts
PidFile=$dir/run/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
E
  chmod 600 "$dir/slurmdbd.conf"
  mkdir "$dir/counters"
  printf '0 W 0 us\n' >"$dir/counters/power"
  printf '0 J 0 us\n' >"$dir/counters/energy"
}

# A node counts its energy as a Cray does, in files that a test may write into. Slurm reads them once its configuration says pm_counters.
show_counters() {
  local below
  mkdir "$dir/nodes/$(hostname)/sys"
  mount --rbind /sys "$dir/nodes/$(hostname)/sys"
  mount -t tmpfs tmpfs /sys # nobody can make a directory in a sysfs
  for below in "$dir/nodes/$(hostname)/sys"/*; do
    mkdir "/sys/${below##*/}"
    mount --rbind "$below" "/sys/${below##*/}"
  done
  mkdir -p /sys/cray/pm_counters
  mount --bind "$dir/counters" /sys/cray/pm_counters
}

# Starts the database and slurmdbd, and says who may do what.
keep_accounts() {
  local data=$dir/database
  mkdir "$data"
  mount -t tmpfs tmpfs "$data"
  local options=(--no-defaults --user=root --datadir="$data" --socket="$dir/run/database" --pid-file="$dir/run/database.pid"
    --skip-grant-tables --innodb-log-file-size=4M --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=0)
  # mariadb-install-db makes more than slurmdbd asks for, and takes seconds for it.
  printf 'create database mysql;\nuse mysql;\n' | cat - /usr/share/mysql/mysql_system_tables.sql |
    mariadbd "${options[@]}" --bootstrap 2>"$dir/log/database.log"
  # Nothing but this cluster is on its network.
  setsid mariadbd "${options[@]}" --port=3306 </dev/null >>"$dir/log/database.log" 2>&1 &
  until [ -S "$dir/run/database" ]; do sleep 0.02; done
  slurmdbd </dev/null
  until sacctmgr --immediate --noheader list cluster >/dev/null 2>&1; do sleep 0.05; done
  cat >"$dir/accounts" <<E
add cluster test
modify qos normal set MaxWall=60 MaxTRES=node=3
add qos short MaxWall=10 MaxTRESPerUser=node=2
add account dune,reef,cliff cluster=test
add user root account=dune,reef cluster=test
modify user root account=dune set QOS=normal,short DefaultQOS=normal
modify user root account=reef set QOS=short DefaultQOS=short
modify user root set DefaultAccount=dune
E
  sacctmgr --immediate <"$dir/accounts" >"$dir/log/accounts.log" 2>&1
}
