"""Our signatures beside the reference implementation of OpenSSF Model Signing, both ways, and our statements beside a library of in-toto.

Usage: compare.py PROGRAM, where PROGRAM is the example `sign` (run.sh builds it). Prints one line a check; exits with 1 when one failed.
Every "accepts" has a "refuses" beside it, so that a verifier that accepts everything would be noticed.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1 import statement_pb2
from model_signing import hashing, signing, verifying
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from make_oracle import key_pair, write

PROGRAM = sys.argv[1]
failures = 0


def check(what: str, holds: bool, details: str = "") -> None:
    global failures
    failures += not holds
    print(f"{'ok    ' if holds else 'FAILED'}  {what}{'' if holds else ': ' + details}")


def ours(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)


def accepted(action) -> tuple[bool, str]:
    try:
        action()
    except Exception as error:  # the reference raises whatever comes up
        return False, f"{type(error).__name__}: {error}"
    return True, ""


def reference_verifies(model: pathlib.Path, public: pathlib.Path) -> tuple[bool, str]:
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    if (model / "link.json").is_symlink():  # the reference (1.1.1) does not take this from the signature
        verifier.set_hashing_config(hashing.Config().set_allow_symlinks(True))
    return accepted(lambda: verifier.verify(model, model / "model.sig"))


def tampered(model: pathlib.Path):
    """Copies of a model with one thing changed each."""
    for what in ("a changed file", "a file more", "a file less", "two files swapped", "a renamed file"):
        copy = model.parent / (model.name + "-" + what.replace(" ", "-"))
        shutil.copytree(model, copy, symlinks=True)
        first, second = copy / "config.json", copy / "adapter.safetensors"
        match what:
            case "a changed file":
                second.write_bytes(second.read_bytes()[:-1] + b"x")
            case "a file more":
                (copy / "more").write_bytes(b"more")
            case "a file less":
                first.unlink()
            case "two files swapped":
                one, two = first.read_bytes(), second.read_bytes()
                first.write_bytes(two)
                second.write_bytes(one)
            case "a renamed file":
                first.rename(copy / "config2.json")
        yield what, copy


def names_it(message: str) -> bool:
    return ("differs" in message and any(name in message for name in ("config.json", "adapter", "more"))) or "link.json" in message


def ours_to_reference(folder: pathlib.Path, private: pathlib.Path, public: pathlib.Path) -> None:
    for name, options in {"plain": [], "ignoring": ["--ignore", "cache", "--ignore", "logs/x"], "links": ["--links"]}.items():
        model = write(folder / f"ours-{name}")
        if name == "ignoring":
            for ignored in ("cache/one", "logs/x"):
                (model / ignored).parent.mkdir(exist_ok=True)
                (model / ignored).write_bytes(b"not signed")
        if name == "links":
            (model / "link.json").symlink_to("config.json")
        (model / ".gitattributes").write_bytes(b"left out by default")
        signed = ours("sign", model, private, *options)
        check(f"we sign ({name})", signed.returncode == 0, signed.stderr)
        check(f"the reference accepts our signature ({name})", *reference_verifies(model, public))
        for what, copy in tampered(model):
            check(f"the reference refuses it after {what} ({name})", not reference_verifies(copy, public)[0])


def reference_to_ours(folder: pathlib.Path, private: pathlib.Path, trust: pathlib.Path) -> None:
    configs = {
        "plain": hashing.Config(),
        "shards": hashing.Config().use_shard_serialization(shard_size=7),
        "links": hashing.Config().use_file_serialization(allow_symlinks=True).set_allow_symlinks(True),
        "git files, too": hashing.Config(),
    }
    for name, config in configs.items():
        model = write(folder / f"theirs-{name.replace(' ', '-')}")
        (model / ".gitattributes").write_bytes(b"a file of git")
        if name == "links":
            (model / "link.json").symlink_to("config.json")
        config.set_ignored_paths(paths=["model.sig"], ignore_git_paths=name != "git files, too")
        signer = signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config)
        signer.sign(model, model / "model.sig")
        verified = ours("verify", model, trust)
        check(f"we accept the reference's signature ({name})", verified.returncode == 0, verified.stderr)
        for what, copy in tampered(model):
            verified = ours("verify", copy, trust)
            check(f"we refuse it after {what} ({name})", verified.returncode != 0 and names_it(verified.stderr), verified.stderr)


def shards(folder: pathlib.Path, private: pathlib.Path) -> None:
    """The reference (1.1.1) names the algorithm of a shard otherwise than OMS v1.0 and refuses the specification's name, so digests are compared."""
    model = write(folder / "shards")
    check("we sign (shards)", ours("sign", model, private, "--shards", 7).returncode == 0)
    bundle = json.loads((model / "model.sig").read_text())
    predicate = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]
    found = {resource["name"]: resource["digest"] for resource in predicate["resources"]}
    config = hashing.Config().use_shard_serialization(shard_size=7).set_ignored_paths(paths=["model.sig"])
    expected = {item.identifier: item.digest.digest_hex for item in config.hash(model).resource_descriptors()}
    check("our shards are the reference's, with the same digests", found == expected, f"{found} {expected}")


def keys(folder: pathlib.Path, trust: pathlib.Path) -> None:
    """Keys in the forms in which OpenSSL and others write them."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = trust / "theirs.pub"
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    forms = {"PKCS8": serialization.PrivateFormat.PKCS8, "SEC1": serialization.PrivateFormat.TraditionalOpenSSL}
    for name, form in forms.items():
        private = folder / f"{name}.key"
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        private.chmod(0o600)
        model = write(folder / f"key-{name}")
        signed = ours("sign", model, private)
        check(f"we sign with a key of another program ({name})", signed.returncode == 0, signed.stderr)
        check(f"the reference accepts that signature ({name})", *reference_verifies(model, public))
        locked = folder / f"{name}.locked"
        locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret")))
        locked.chmod(0o600)
        refused = ours("sign", model, locked)
        check(f"we refuse an encrypted key and say so ({name})", "an encrypted key" in refused.stderr, refused.stderr)


def curves(folder: pathlib.Path) -> None:
    """Keys on the other curves that the reference signs with."""
    for curve, known in {ec.SECP384R1(): True, ec.SECP521R1(): False}.items():
        trust = folder / f"trust-{curve.name}"
        trust.mkdir()
        private = key_pair(curve, folder, f"{curve.name}.key", trust / "other.pub")
        # Half of the reference's signatures have the higher of the two forms of `s`.
        for index in range(8):
            model = write(folder / f"{curve.name}-{index}")
            config = hashing.Config().set_ignored_paths(paths=["model.sig"])
            signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(model, model / "model.sig")
            verified = ours("verify", model, trust)
            if known:
                check(f"we accept the reference's signature ({curve.name}, {index})", verified.returncode == 0, verified.stderr)
                for what, copy in tampered(model):
                    verified = ours("verify", copy, trust)
                    check(f"we refuse it after {what} ({curve.name}, {index})", verified.returncode != 0 and names_it(verified.stderr))
            else:
                check(f"we refuse a key on {curve.name} by its name", "a key of kind P-521" in verified.stderr, verified.stderr)


def published(folder: pathlib.Path, private: pathlib.Path, public: pathlib.Path, trust: pathlib.Path) -> None:
    """Directories as the programs publish them: a statement of where they come from, and a signature over it, too."""
    (trust / "roles.json").write_text('{"ours": ["release"]}')
    model = write(folder / "published")
    check("we publish", ours("publish", model, private).returncode == 0)
    used = ours("use", model, trust, "release")
    check("we use what we published", used.returncode == 0, used.stderr)
    check("we refuse it where another role is asked for", ours("use", model, trust, "checkpoint").returncode != 0)
    check("the reference accepts the signature of what we published", *reference_verifies(model, public))
    for what, copy in tampered(model):
        check(f"the reference refuses it after {what}", not reference_verifies(copy, public)[0])
        used = ours("use", copy, trust, "release")
        check(f"we refuse it after {what}", used.returncode != 0 and names_it(used.stderr), used.stderr)
    line = model / "provenance.intoto.jsonl"
    line.write_text(line.read_text().replace('"payloadType"', ' "payloadType"'))
    check("the reference refuses another statement", not reference_verifies(model, public)[0])
    check("we refuse another statement", "provenance.intoto.jsonl" in ours("use", model, trust, "release").stderr)
    fresh = write(folder / "digested")
    printed = ours("publish", fresh, private).stdout.strip()
    names = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file() and path.name != "model.sig")
    lines = "".join(f"{hashlib.sha256((fresh / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    check("the digest is that of sha256sum's lines", printed == hashlib.sha256(lines.encode()).hexdigest(), printed)


def statements(folder: pathlib.Path, private: pathlib.Path, public: pathlib.Path, trust: pathlib.Path) -> None:
    model = write(folder / "stated")
    check("we state where a model comes from", ours("state", model, private).returncode == 0)
    check("we verify our statement", ours("stated", model, trust).returncode == 0)
    line = json.loads((model / "provenance.intoto.jsonl").read_text())
    keyid = line["signatures"][0]["keyid"]
    envelope = Envelope.from_dict(line)
    loaded = serialization.load_pem_public_key(public.read_bytes())
    key = SSlibKey.from_crypto(loaded, keyid=keyid)
    check("securesystemslib accepts the envelope", *accepted(lambda: envelope.verify([key], 1)))
    other = SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key(), keyid=key.keyid)
    check("securesystemslib refuses it with another key", not accepted(lambda: envelope.verify([other], 1))[0])
    content = json.loads(envelope.payload)
    parsed = json_format.ParseDict(content, statement_pb2.Statement())
    check("in-toto parses the statement", *accepted(lambda: Statement.copy_from_pb(parsed).validate()))
    check("in-toto counts every file as a subject", len(parsed.subject) == 7, str(len(parsed.subject)))
    predicate = json_format.ParseDict(content["predicate"], provenance_pb2.Provenance())
    dependencies = predicate.build_definition.resolved_dependencies
    for dependency in dependencies:
        check(f"in-toto accepts {dependency.name!r}", *accepted(lambda: ResourceDescriptor.copy_from_pb(dependency).validate()))
    check("in-toto reads the dependencies", len(dependencies) == 5)
    check("in-toto reads the times", predicate.run_details.metadata.started_on.ToJsonString() == "2026-01-31T12:00:00Z")
    check("in-toto reads the build type", predicate.build_definition.build_type.startswith("urn:sirocco:"))


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        trust = folder / "trust"
        trust.mkdir()
        check("we make keys", ours("keys", folder, "ours").returncode == 0)
        private, public = folder / "ours.key", folder / "ours.pub"
        shutil.copy(public, trust)
        ours_to_reference(folder, private, public)
        reference_to_ours(folder, private, trust)
        shards(folder, private)
        keys(folder, trust)
        curves(folder)
        statements(folder, private, public, trust)
        published(folder, private, public, trust)
    print(f"{failures} checks failed")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
