#!/usr/bin/env python3
"""Unpacks what a CPU build needs of the PyTorch wheel, and the two CUDA libraries that libtorch_cpu.so names, into DIRECTORY.

    scripts/unpack_libtorch.py DIRECTORY TORCH.whl CUPTI.whl CUDART.whl
"""

import os
import sys
import zipfile

LIBRARIES = {"libc10.so", "libtorch.so", "libtorch_cpu.so", "libgomp.so.1", "libtorch_global_deps.so", "libcupti.so.13", "libcudart.so.13"}


def place(name):
    """Where a member of one of the wheels goes, or None for what is not needed."""
    if name.endswith("/"):
        return None
    if name.startswith("torch/include/"):
        return name.removeprefix("torch/")
    if "/lib/" in name and os.path.basename(name) in LIBRARIES:
        return os.path.join("lib", os.path.basename(name))
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
                    while block := source.read(1 << 22):
                        out.write(block)


if __name__ == "__main__":
    main()
