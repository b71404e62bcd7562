"""Writes tests/oracle/: small directories signed by the reference implementation, and the public key. The private key is not kept.

Usage: make_oracle.py ORACLE_DIRECTORY (run.sh --oracle calls it). ECDSA draws randomness, so the bytes differ from run to run.
"""

import pathlib
import shutil
import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing

# Names whose order differs between "by name" and "part by part", one outside ASCII, one hidden, one empty file.
FILES = {
    "a-b": b"one",
    "a/b": b"two",
    "a/empty": b"",
    "adapter.safetensors": bytes(range(256)),
    "config.json": b'{"r": 8}\n',
    ".hidden": b"three",
    "م": b"four",
}


def write(folder: pathlib.Path) -> pathlib.Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def key_pair(curve: ec.EllipticCurve, folder: pathlib.Path, name: str, public: pathlib.Path) -> pathlib.Path:
    key = ec.generate_private_key(curve)
    private = folder / name
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private


def main() -> None:
    oracle = pathlib.Path(sys.argv[1])
    for folder in ("trust", "files", "shards", "ignored", "p384"):
        shutil.rmtree(oracle / folder, ignore_errors=True)
    (oracle / "trust").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        secret = pathlib.Path(temporary)
        key = key_pair(ec.SECP256R1(), secret, "key", oracle / "trust/reference.pub")
        hashings = {
            "files": hashing.Config(),
            "shards": hashing.Config().use_shard_serialization(shard_size=100),
            "ignored": hashing.Config(),
        }
        for name, config in hashings.items():
            model = write(oracle / name)
            ignored = [model / "model.sig"]
            if name == "ignored":
                (model / "cache").mkdir()
                (model / "cache/x").write_bytes(b"anything")
                ignored.append(model / "cache")
            config.set_ignored_paths(paths=[path.relative_to(model) for path in ignored])
            signer = signing.Config().use_elliptic_key_signer(private_key=key)
            signer.set_hashing_config(config).sign(model, model / "model.sig")
        other = key_pair(ec.SECP384R1(), secret, "other", oracle / "p384.pem")
        model = oracle / "p384"
        model.mkdir()
        (model / "config.json").write_bytes(b"{}")
        config = hashing.Config().set_ignored_paths(paths=["model.sig"])
        signer = signing.Config().use_elliptic_key_signer(private_key=other)
        signer.set_hashing_config(config).sign(model, model / "model.sig")


if __name__ == "__main__":
    main()
