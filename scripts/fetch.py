#!/usr/bin/env python3
"""Downloads one pinned file of scripts/downloads.txt into a directory and prints its path.

    scripts/fetch.py NAME DIRECTORY

The file comes from the Python package index that pip is configured with (PIP_INDEX_URL, pip's configuration, else pip's own
default), through the index's JSON form, and never runs anything that it downloads. A file that is already there with the right
SHA-256 is not downloaded again. Exit status: 0 done; 2 wrong arguments; 5 the file cannot be had or is not what was pinned.
"""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request

PINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "downloads.txt")
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


def fail(status, message):
    print(f"fetch: {message}", file=sys.stderr)
    sys.exit(status)


def pins():
    with open(PINS, encoding="utf-8") as lines:
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {name: (project, filename, sha256) for name, project, filename, sha256 in rows}


def pip_setting(key):
    """One value of pip's configuration, or None."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", key], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def index_url():
    configured = os.environ.get("PIP_INDEX_URL") or pip_setting("global.index-url")
    if configured:
        return configured.rstrip("/")
    try:
        from pip._internal.models.index import PyPI  # pip's default: the one place that names the index
    except ImportError:
        fail(5, "no package index is known: install pip (Debian: python3-pip), or set PIP_INDEX_URL to a mirror's /simple address")
    return PyPI.simple_url.rstrip("/")


def open_url(url, headers=None):
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or pip_setting("global.cert")
    context = ssl.create_default_context(cafile=certificates)
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=180, context=context)


def digest(path):
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()


def file_url(project, filename):
    address = f"{index_url()}/{project}/"
    with open_url(address, {"Accept": SIMPLE_JSON}) as answer:
        listing = json.load(answer)
    for file in listing["files"]:
        if file["filename"] == filename:
            return urllib.parse.urljoin(address, file["url"])
    fail(5, f"the package index has no file {filename} of project {project}")


def download(url, path):
    """Streams to PATH.partial.PID and renames, so that a broken download never looks like a whole one."""
    partial = f"{path}.partial.{os.getpid()}"
    shown = -1
    with open_url(url) as answer, open(partial, "wb") as out:
        size = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(1 << 20):
            out.write(block)
            percent = 100 * out.tell() // size if size else 0
            if sys.stderr.isatty() and percent != shown:
                print(f"\rfetch: {os.path.basename(path)} {percent} %", end="", file=sys.stderr)
                shown = percent
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return partial


def main():
    known = pins()
    if len(sys.argv) != 3 or sys.argv[1] not in known:
        fail(2, f"usage: scripts/fetch.py NAME DIRECTORY, with NAME one of: {' '.join(sorted(known))}")
    project, filename, expected = known[sys.argv[1]]
    path = os.path.join(sys.argv[2], filename)
    if os.path.exists(path) and digest(path) == expected:
        print(path)
        return
    os.makedirs(sys.argv[2], exist_ok=True)
    try:
        partial = download(file_url(project, filename), path)
    except OSError as error:
        fail(5, f"cannot download {filename}: {error}. Without a network, put the file at {path} yourself")
    found = digest(partial)
    if found != expected:
        os.remove(partial)
        fail(5, f"{filename} has SHA-256 {found}, expected {expected}: the download was altered or broken; nothing was kept")
    os.rename(partial, path)
    print(path)


if __name__ == "__main__":
    main()
