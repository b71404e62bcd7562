#!/usr/bin/env bash
# Finds or installs what a build of Sirocco needs, and writes .cargo/config.toml so that plain cargo works afterwards.
# Idempotent: a second run checks and changes nothing. Needs root only to install Debian or Ubuntu packages that are missing.
#
#   LIBTORCH        a libtorch or PyTorch 2.11.0 to use instead of the pinned wheel (a cluster's own module): the directory that
#                   holds lib/ and include/. Keep it set: without it the next run goes back to the pinned wheel.
#   SIROCCO_CACHE   where downloads and libtorch are kept, shared by every clone (default: ~/.cache/sirocco)
#   NEEDS_PYTHON    not empty: Python is needed even if libtorch is there (make sets it for the demonstration)
#   NEEDS_SLURM     not empty: a Slurm for the tests is wanted, where it may be installed (make sets it for the tests)
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.11.0
cache=${SIROCCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sirocco}
arch=$(uname -m)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 5; }
have() { command -v "$1" >/dev/null; }

case "$(uname -s)-$arch" in
  Linux-x86_64 | Linux-aarch64) ;;
  *) fail "Sirocco builds on x86_64 and aarch64 Linux; this is $(uname -s) on $arch" ;;
esac
have cargo || fail "no cargo: install a Rust toolchain (rust-toolchain.toml names the version), or module load Rust"

# --- Where libtorch is, or will be: the cluster's own, or the pinned wheel ------------------------------------------------------

if [ -n "${LIBTORCH:-}" ]; then
  [ -d "$LIBTORCH" ] || fail "LIBTORCH is $LIBTORCH, which is not a directory"
  libtorch=$(cd "$LIBTORCH" && pwd)
else
  libtorch=$cache/libtorch-$torch_version-$arch
fi
python= # downloads are made with it
if [ -n "${NEEDS_PYTHON:-}" ] || [ ! -d "$libtorch" ]; then python=needed; fi

# --- System packages: a C++ compiler, libclang (bindgen reads mpi.h with it), MPI, Python for downloads -------------------------

# The directory of libclang itself; libclang-cpp, which comes with clang, is another library and does not do.
find_libclang() {
  local candidate
  for candidate in "${LIBCLANG_PATH:-/nonexistent}" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib64/llvm*/lib \
    "$(llvm-config --libdir 2>/dev/null || true)"; do
    if compgen -G "$candidate/libclang.so*" >/dev/null || compgen -G "$candidate/libclang-[0-9]*.so*" >/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

# Debian's names of the packages without which nothing builds or runs.
missing_packages() {
  have clang++ || have g++ || echo clang
  have cc || echo gcc # rustc links with cc
  [ -n "$(find_libclang)" ] || echo libclang-dev
  have mpicc || echo libopenmpi-dev
  have mpirun || have srun || echo openmpi-bin
  if [ -n "$python" ]; then
    have python3 || echo python3
    { have python3 && python3 -c 'import pip' 2>/dev/null; } || [ -n "${PIP_INDEX_URL:-}" ] || echo python3-pip
  fi
}

# What is better to have. g++ alone would do, at ten times the build time of libtorch's bindings.
extra_packages() {
  have clang++ || echo clang
  [ -z "$python" ] || compgen -G '/etc/ssl/certs/*.pem' >/dev/null || echo ca-certificates
}

# What the tests start a Slurm cluster with (tests/slurm/cluster.sh); they are skipped without it.
slurm_packages() {
  { have slurmctld && have slurmd && have sbatch; } || echo slurm-wlm
  have munged || echo munge
  have ip || echo iproute2
  # Its accounts. Neither package starts a service: slurmdbd has no configuration, and of MariaDB this is the program alone.
  have slurmdbd || echo slurmdbd
  have mariadbd || echo mariadb-server-core
  # And what limits a disk, for tests/quotas.
  have quota || echo quota
}

missing=$(missing_packages | tr '\n' ' ')
if [ "$(id -u)" = 0 ] && have apt-get; then
  extra=
  # Only the first time: where it cannot be installed, later runs do not wait for the network again.
  if [ -n "$missing" ] || [ ! -f .cargo/config.toml ]; then extra=$(extra_packages | tr '\n' ' '); fi
  if [ -n "${NEEDS_SLURM:-}" ]; then extra+=$(slurm_packages | tr '\n' ' '); fi
  install_packages() {
    # shellcheck disable=SC2086  # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null
  }
  if [ -n "$missing$extra" ]; then
    say "installing $missing$extra(apt)"
    apt-get update -qq || say "apt-get update failed; trying with the package lists that are here"
    if ! install_packages "$missing$extra"; then
      [ -z "$missing" ] || install_packages "$missing" || fail "apt-get could not install: $missing"
      say "going on without: $extra"
    fi
  fi
elif [ -n "$missing" ]; then
  say "missing: $missing"
  say "  Debian or Ubuntu, as root:  apt-get install $missing"
  say "  on a cluster:               module load OpenMPI Clang Python   (names differ: module avail)"
  say "  Spack:                      spack install openmpi llvm+clang python py-pip && spack load openmpi llvm python py-pip"
  say "  EasyBuild:                  eb --robot OpenMPI-4.1.6-GCC-13.2.0.eb Clang-17.0.6-GCCcore-13.2.0.eb"
  exit 5
fi
if [ -n "$python" ] && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
  fail "python3 is $(python3 --version 2>&1), and downloads need 3.9 or later: put a newer one first on PATH (module load Python)"
fi

# --- libtorch: the pinned wheel, unpacked once per user --------------------------------------------------------------------------

unpack_libtorch() {
  local into=$1 torch cupti cudart
  say "libtorch $torch_version is not in $cache yet: downloading about 540 MB, once for every clone"
  torch=$(python3 scripts/fetch.py "torch.$arch" "$cache/downloads")
  cupti=$(python3 scripts/fetch.py "cupti.$arch" "$cache/downloads")
  cudart=$(python3 scripts/fetch.py "cudart.$arch" "$cache/downloads")
  rm -rf "$into.partial"
  python3 scripts/unpack_libtorch.py "$into.partial" "$torch" "$cupti" "$cudart"
  echo "$torch_version" >"$into.partial/build-version"
  mv -T "$into.partial" "$into"
  rm -f "$torch" "$cupti" "$cudart"
}

version_of() {
  if [ -f "$1/build-version" ]; then
    head -n 1 "$1/build-version"
  elif [ -f "$1/version.py" ]; then
    sed -n "s/^__version__ = '\([^']*\)'.*/\1/p" "$1/version.py"
  fi
}

if [ ! -d "$libtorch" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # two clones that set up at once unpack once
  if [ ! -d "$libtorch" ]; then
    unpack_libtorch "$libtorch"
  fi
  exec 9>&-
fi
[ -f "$libtorch/lib/libtorch_cpu.so" ] || fail "no lib/libtorch_cpu.so under $libtorch: set LIBTORCH to the directory that holds lib/ and include/ of PyTorch $torch_version"
found=$(version_of "$libtorch")
case "${found:-$torch_version}" in
  "$torch_version" | "$torch_version"+*) ;;
  *) fail "$libtorch is libtorch $found; Sirocco needs $torch_version" ;;
esac

# --- .cargo/config.toml: the one place that tells cargo where things are (ignored by git) ----------------------------------------

cc=$(command -v clang || command -v gcc || command -v cc)
cxx=$(command -v clang++ || command -v g++)
wanted=$(
  cat <<TOML
# Written by scripts/setup.sh; do not edit.
[env]
LIBTORCH = "$libtorch"
LIBCLANG_PATH = "$(find_libclang)"
CC = "$cc"
CXX = "$cxx"

[build]
# Programs find libtorch by their own run path, never by an environment variable.
rustflags = ["-C", "link-arg=-Wl,-rpath,$libtorch/lib"]
TOML
)
mkdir -p .cargo
if [ "$(cat .cargo/config.toml 2>/dev/null)" != "$wanted" ]; then
  printf '%s\n' "$wanted" >.cargo/config.toml
  say "wrote .cargo/config.toml (libtorch: $libtorch)"
fi
