# SPDX-License-Identifier: Apache-2.0
"""Sirocco by Spack 1: the three programs, on Spack's own PyTorch. packaging/README.md says how.

Not run (2026-11-22): Python compiles it, and what it names is in spack-packages of 2026-07-01.
Spack itself has neither read it nor built anything with it.
"""

import os

from spack_repo.builtin.build_systems.generic import Package

from spack.package import *


class Sirocco(Package):
    """Sirocco fine-tunes Mistral-family language models on a supercomputer, over MPI and under
    Slurm, and serves the result."""

    # There is no place to download it from: packaging/spack/spack.yaml builds the clone.
    url = f"file://{os.getcwd()}/sirocco-0.1.0.tar.gz"
    manual_download = True

    license("Apache-2.0")

    version("0.1.0")

    variant("cuda", default=False, description="Take a PyTorch with CUDA, for model.device = cuda")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("gmake", type="build")
    depends_on("rust@1.95:", type="build")
    # clang builds libtorch's bindings ten times as fast as g++; libclang reads mpi.h.
    depends_on("llvm@16: +clang", type="build")
    depends_on("mpi")
    # scripts/setup.sh refuses another version.
    depends_on("py-torch@2.11.0 +cuda", when="+cuda", type=("build", "link", "run"))
    depends_on("py-torch@2.11.0 ~cuda", when="~cuda", type=("build", "link", "run"))

    conflicts("platform=darwin", msg="Sirocco runs on Linux")
    requires("target=x86_64:", "target=aarch64:", policy="any_of")

    sanity_check_is_file = [
        join_path("bin", program) for program in ("sirocco", "sirocco-train", "sirocco-serve")
    ]
    sanity_check_is_dir = [join_path("share", "sirocco", "configs", "sites")]

    def setup_build_environment(self, env: EnvironmentModifications) -> None:
        # …/torch/share/cmake → …/torch, which holds lib/ and include/
        cmake = self["py-torch"].cmake_prefix_paths[0]
        env.set("LIBTORCH", os.path.dirname(os.path.dirname(cmake)))
        env.set("LIBCLANG_PATH", self.spec["llvm"].prefix.lib)
        # Crates are fetched here, and each is compared with its SHA-256 in Cargo.lock.
        env.set("CARGO_HOME", join_path(self.stage.path, "cargo"))

    def install(self, spec: Spec, prefix: Prefix) -> None:
        make("install", f"PREFIX={prefix}")

    @run_after("install")
    def check_installed(self) -> None:
        Executable(self.prefix.bin.sirocco)("--version")
