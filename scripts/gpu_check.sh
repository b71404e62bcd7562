#!/usr/bin/env bash
# Compares every operation on a GPU with the CPU's and prints the table of speeds. `make gpu-check` runs it.
#
#   scripts/gpu_check.sh               builds, checks and measures on this machine
#   scripts/gpu_check.sh --bundle DIR  only gathers what a machine with a GPU needs in DIR; there, DIR/gpu_check.sh does the rest
#
#   LIBTORCH_CUDA   the directory that holds lib/ of a libtorch or PyTorch 2.11.0 for CUDA (default: that of python3's torch)
#   LENGTH, STEPS   tokens in a sequence (default 4096) and steps to measure (default 5)
#
# Exit status: 0 all is well; 1 a comparison is beyond its tolerance; 5 the machine lacks something.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
torch_version=2.11.0

lacks() {
  printf 'error: %s\nhelp: %s\n' "$1" "$2" >&2
  exit 5
}

# --- The program: beside this script in a bundle, else built ---------------------------------------------------------------------

build() {
  cd "$here/.."
  export PATH="$PATH:$HOME/.cargo/bin"
  scripts/setup.sh
  cargo build --release --locked -p sirocco-train
  program=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/sirocco-train
}

# The libraries that the program needs and that come neither with libtorch nor with every Linux: MPI and what it needs.
gather() {
  mkdir -p "$1/lib"
  cp "$program" "$1/sirocco-train"
  if command -v strip >/dev/null; then strip --strip-debug "$1/sirocco-train"; fi
  cp "$here/gpu_check.sh" "$1/"
  ldd "$program" | awk '$2 == "=>" { print $1, $3 }' | while read -r name path; do
    case $name in
      libtorch* | libc10* | libcu* | libgomp* | libstdc++* | libgcc_s* | libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libutil.so*) ;;
      *) cp -L "$path" "$1/lib/$name" ;;
    esac
  done
  printf 'gpu_check: %s holds the program for a machine with a GPU and PyTorch %s; run gpu_check.sh there\n' "$1" "$torch_version" >&2
}

# --- What the machine has --------------------------------------------------------------------------------------------------------

find_gpu() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then return; fi
  lacks "no NVIDIA GPU on this machine" \
    "run this on a node with one (with Slurm: srun --gpus 1 make gpu-check), or take it there: scripts/gpu_check.sh --bundle DIR"
}

# The version that a libtorch (build-version) or a PyTorch (version.py) says it has; nothing where it says none.
version_of() {
  if [ -e "$1/build-version" ]; then
    head -n 1 "$1/build-version" | tr -d '[:space:]'
  elif [ -e "$1/version.py" ]; then
    sed -n "s/^__version__ = '\\(.*\\)'.*/\\1/p" "$1/version.py" | head -n 1
  fi
}

# The directories of libtorch for CUDA and of the libraries that it was installed with.
find_libraries() {
  local root found
  if [ -n "${LIBTORCH_CUDA:-}" ]; then
    root=$LIBTORCH_CUDA
    found=$(version_of "$root")
    [ -n "$found" ] || lacks "$root says nowhere which version it is (neither build-version nor version.py)" \
      "set LIBTORCH_CUDA to the directory of a libtorch or PyTorch $torch_version for CUDA: the one that holds lib/"
    [ "${found%%+*}" = "$torch_version" ] ||
      lacks "LIBTORCH_CUDA=$root is $found, expected $torch_version" "set it to the directory of a libtorch or PyTorch $torch_version for CUDA"
  else
    found=$(python3 -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null) ||
      lacks "no libtorch for CUDA: LIBTORCH_CUDA is not set and python3 has no torch" "pip install torch==$torch_version, or module load it"
    [ "${found%%+*}" = "$torch_version" ] ||
      lacks "python3's torch is $found, expected $torch_version" "set LIBTORCH_CUDA to the directory of a libtorch $torch_version for CUDA"
    root=$(python3 -c 'import importlib.util, os; print(os.path.dirname(importlib.util.find_spec("torch").origin))')
  fi
  [ -e "$root/lib/libtorch_cuda.so" ] || lacks "$root/lib holds no libtorch_cuda.so" "this libtorch is one for the CPU; $torch_version for CUDA is needed"
  libraries=$root/lib
  for found in "$root"/../nvidia/*/lib; do
    if [ -d "$found" ]; then libraries=$libraries:$found; fi
  done
}

# --- Here we go ------------------------------------------------------------------------------------------------------------------

if [ "${1:-}" = --bundle ]; then
  [ -n "${2:-}" ] || lacks "--bundle names no directory" "scripts/gpu_check.sh --bundle DIR"
  bundle=$(realpath -m -- "$2")
  build
  gather "$bundle"
  exit
fi

find_gpu
find_libraries
if [ -x "$here/sirocco-train" ]; then
  program=$here/sirocco-train
  libraries=$libraries:$here/lib
else
  build
fi
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
missing=$(ldd "$program" 2>/dev/null | awk '/not found/ { printf "%s%s", separator, $1; separator = ", " }') || true
[ -z "$missing" ] || lacks "$program needs $missing, found neither in $libraries nor on this system" \
  "install them or add their directory to LD_LIBRARY_PATH; a program that was built on this machine finds them: make gpu-check in a clone"
"$program" --version >/dev/null || lacks "$program does not start here" "build it on this machine: make gpu-check in a clone"
status=0
"$program" gpu-check || status=$?
[ "$status" -ne 5 ] || exit 5
"$program" gpu-bench --length "${LENGTH:-4096}" --steps "${STEPS:-5}" || status=$?
exit "$status"
