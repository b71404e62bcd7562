#!/usr/bin/env bash
# Finds or installs what a build of Sirocco needs, and writes .cargo/config.toml so that plain cargo works afterwards.
# Idempotent: a second run checks and changes nothing. Needs root only to install Debian or Ubuntu packages that are missing.
#
#   LIBTORCH        a libtorch or PyTorch 2.11 to use instead of the pinned wheel (a cluster's own module)
#   SIROCCO_CACHE   where downloads and libtorch are kept, shared by every clone (default: ~/.cache/sirocco)
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.11.0
cache=${SIROCCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sirocco}
arch=$(uname -m)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 5; }

case "$(uname -s)-$arch" in
  Linux-x86_64 | Linux-aarch64) ;;
  *) fail "Sirocco builds on x86_64 and aarch64 Linux; this is $(uname -s) on $arch" ;;
esac

# --- System packages: a C++ compiler, libclang (bindgen reads mpi.h with it), MPI, Python for downloads -------------------------

find_libclang() {
  local candidate
  for candidate in "${LIBCLANG_PATH:-/nonexistent}" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib64/llvm*/lib; do
    compgen -G "$candidate/libclang*.so*" >/dev/null && { echo "$candidate"; return; }
  done
  command -v llvm-config >/dev/null && llvm-config --libdir
}

missing_packages() {
  command -v clang++ >/dev/null || command -v g++ >/dev/null || echo clang
  [ -n "$(find_libclang)" ] || echo libclang-dev
  command -v mpicc >/dev/null || echo libopenmpi-dev
  command -v mpirun >/dev/null || command -v srun >/dev/null || echo openmpi-bin
  command -v python3 >/dev/null || echo python3
  { command -v python3 >/dev/null && python3 -c 'import pip' 2>/dev/null; } || [ -n "${PIP_INDEX_URL:-}" ] || echo python3-pip
}

missing=$(missing_packages | tr '\n' ' ')
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # A compiler that is only g++ works, at ten times the build time of libtorch's bindings; clang comes along when we install anyway.
    say "installing $missing(apt)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing clang >/dev/null || fail "apt-get could not install: $missing"
  else
    say "missing: $missing"
    say "  Debian or Ubuntu, as root:  apt-get install $missing"
    say "  on a cluster:               module load OpenMPI Clang Python   (names differ: module avail)"
    say "  Spack:                      spack install openmpi llvm+clang python py-pip && spack load openmpi llvm python py-pip"
    say "  EasyBuild:                  eb --robot OpenMPI-4.1.6-GCC-13.2.0.eb Clang-17.0.6-GCCcore-13.2.0.eb"
    exit 5
  fi
fi
command -v cargo >/dev/null || fail "no cargo: install a Rust toolchain (rust-toolchain.toml names the version), or module load Rust"

# --- libtorch: the cluster's own, or the pinned wheel unpacked once per user -----------------------------------------------------

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

if [ -n "${LIBTORCH:-}" ]; then
  libtorch=$LIBTORCH
else
  libtorch=$cache/libtorch-$torch_version-$arch
  if [ ! -d "$libtorch" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9 # two clones that set up at once unpack once
    [ -d "$libtorch" ] || unpack_libtorch "$libtorch"
    exec 9>&-
  fi
fi
[ -f "$libtorch/lib/libtorch_cpu.so" ] || fail "no lib/libtorch_cpu.so under $libtorch: set LIBTORCH to the directory that holds lib/ and include/ of PyTorch $torch_version"

# --- .cargo/config.toml: the one place that tells cargo where things are (ignored by git) ----------------------------------------

cxx=$(command -v clang++ || command -v g++)
cc=$(command -v clang || command -v gcc || command -v cc)
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
