#!/usr/bin/env python3
"""Unpacks what a CPU build needs of the PyTorch wheel, and the two CUDA libraries that libtorch_cpu.so names, into DIRECTORY.

    scripts/unpack_libtorch.py DIRECTORY TORCH.whl CUPTI.whl CUDART.whl

Of PyTorch: the headers and every library except those that only its GPU or Python side uses. What is left is what libtorch_cpu.so
needs on that machine: nothing more on x86_64; Arm's compute library and NVIDIA's BLAS and LAPACK on aarch64.
"""

import os
import shutil
import sys
import zipfile

NOT_NEEDED = ("libtorch_cuda", "libc10_cuda", "libcaffe2_nvrtc", "libtorch_nvshmem", "libtorch_python", "libshm")
CUDA_LIBRARIES = {"libcupti.so.13", "libcudart.so.13"}


def place(name):
    """Where a member of one of the wheels goes, or None for what is not needed."""
    library = os.path.basename(name)
    if name.endswith("/"):
        return None
    if name.startswith("torch/include/"):
        return name.removeprefix("torch/")
    if name.startswith("torch/lib/") and ".so" in library and not library.startswith(NOT_NEEDED):
        return os.path.join("lib", library)
    if name.startswith("nvidia/") and library in CUDA_LIBRARIES:
        return os.path.join("lib", library)
    if ".dist-info/" in name and "licen" in name.lower():
        return os.path.join("licenses", name.replace("/", "_"))
    return None


def main():
    directory, *wheels = sys.argv[1:]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                target = place(member.filename)
                if target is None:
                    continue
                path = os.path.join(directory, target)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 22)


if __name__ == "__main__":
    main()
