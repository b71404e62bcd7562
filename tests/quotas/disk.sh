#!/usr/bin/env bash
# A disk with real quotas, and what `sirocco check` says of them: an ext4 image, mounted where nobody else sees it, with limits for a user, a group
# and a project.
#
#   disk.sh PROGRAMS PLACE     PLACE holds model, data and run.toml; what each check says goes into PLACE/said-NAME, its exit status last
#
# Exit status 77: this kernel keeps no quotas. Needs root, quota and e2fsprogs. As process 1 of a user-mode Linux it ends that, too.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
programs=$1 place=$2
user=65534 project=42

finish() {
  echo "$1" >"$place/status"
  if [ $$ = 1 ]; then
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
  fi
  exit "$1"
}

if [ $$ = 1 ]; then
  mount -t proc proc /proc
  for module in drivers/block/loop fs/quota/quota_tree fs/quota/quota_v2; do insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko"; done
fi
mount -t tmpfs tmpfs /mnt
mkdir /mnt/disk /mnt/programs
mkdir -m 1777 /mnt/scratch
# What nobody but root may look into can be reached from here.
mount --bind "$programs" /mnt/programs
truncate --size=64M /mnt/image
mkfs.ext4 -q -O quota,project -E quotatype=usrquota:grpquota:prjquota /mnt/image
mount -o loop,usrquota,grpquota,prjquota /mnt/image /mnt/disk || finish 77
mkdir /mnt/disk/runs
chattr -p $project +P /mnt/disk/runs
cp -r "$place"/{model,train.jsonl,valid.jsonl,run.toml} /mnt/disk/runs/
chown -R $user:$user /mnt/disk/runs
sync

# Kilobytes and files that are used; all three count the same files.
used() { quota -w -p -v --show-mntpoint --hide-device -u --filesystem=/mnt/disk $user | awk '$1 == "/mnt/disk" { print $'"$1"' + 0 }'; }

check() { # NAME
  (cd /mnt/disk/runs && setpriv --reuid=$user --regid=$user --groups=$user env TMPDIR=/mnt/scratch /mnt/programs/sirocco check run.toml) \
    >"$place/said-$1" 2>&1
  echo "exit status $?" >>"$place/said-$1"
}

limit() { setquota "$1" "$2" "$3" "$4" "$5" "$6" /mnt/disk; } # KIND ID SOFT HARD SOFT_FILES HARD_FILES

kilobytes=$(used 2) files=$(used 6)
check unlimited
limit -u $user 0 $((kilobytes + 20000)) 0 1000
check roomy
limit -u $user 0 $((kilobytes + 1)) 0 0
check bytes
limit -u $user $((kilobytes + 1)) $((kilobytes + 20000)) 0 0
check soft
limit -u $user 0 0 0 $((files + 1))
check files
limit -u $user 0 0 0 0
limit -g $user 0 $((kilobytes + 1)) 0 0
check group
limit -g $user 0 0 0 0
limit -P $project 0 $((kilobytes + 1)) 0 0
check project
finish 0
