#!/usr/bin/env python3
"""Downloads one pinned file of scripts/downloads.txt into a directory and prints its path.

    scripts/fetch.py NAME DIRECTORY

The file comes from the Python package index that pip is configured with (PIP_INDEX_URL, pip's configuration, else pip's own
default), and nothing that it holds is run. A file that is already there with the right SHA-256 is not downloaded again, so on a
machine without a network the file can be put there by hand. Exit status: 0 done; 2 wrong arguments; 5 the file cannot be had or is
not what was pinned.
"""

import base64
import functools
import hashlib
import html.parser
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request

PINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "downloads.txt")
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
ATTEMPTS = 3


class Refused(Exception):
    """The index answered, and the answer is no: trying again would not help."""


def fail(status, message):
    print(f"fetch: {message}", file=sys.stderr)
    sys.exit(status)


def pins():
    with open(PINS, encoding="utf-8") as lines:
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {name: (project, filename, sha256) for name, project, filename, sha256 in rows}


@functools.cache
def pip_setting(key):
    """One value of pip's configuration, or None."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", key], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


@functools.cache
def index_url():
    configured = os.environ.get("PIP_INDEX_URL") or pip_setting("global.index-url") or pip_setting("install.index-url")
    if configured:
        return configured.rstrip("/")
    try:
        from pip._internal.models.index import PyPI  # pip's default: the one place that names the index
    except ImportError:
        raise Refused("no package index is known: install pip (Debian: python3-pip), or set PIP_INDEX_URL") from None
    return PyPI.simple_url.rstrip("/")


@functools.cache
def tls():
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or pip_setting("global.cert")
    return ssl.create_default_context(cafile=certificates)


def open_url(url, headers=None):
    """Opens an address; a name and password in it (as private mirrors have) become a header, which urllib does not do itself."""
    parts = urllib.parse.urlsplit(url)
    headers = dict(headers or {})
    if parts.username:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = urllib.request.Request(urllib.parse.urlunsplit(parts), headers=headers)
    return urllib.request.urlopen(request, timeout=180, context=tls())


class Links(html.parser.HTMLParser):
    """File name → address, from the HTML form of an index page, for mirrors that have no JSON form."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def handle_starttag(self, tag, attributes):
        address = dict(attributes).get("href")
        if tag == "a" and address:
            name = urllib.parse.unquote(urllib.parse.urlsplit(address).path.rpartition("/")[2])
            self.found[name] = address


def listing(page, kind):
    if "json" in kind:
        return {file["filename"]: file["url"] for file in json.loads(page)["files"]}
    links = Links()
    links.feed(page)
    return links.found


def file_url(project, filename):
    address = f"{index_url()}/{project}/"
    with open_url(address, {"Accept": f"{SIMPLE_JSON}, text/html;q=0.1"}) as answer:
        files = listing(answer.read().decode("utf-8"), answer.headers.get("Content-Type", ""))
    if filename not in files:
        raise Refused(f"the package index has no file {filename} of project {project}")
    return urllib.parse.urljoin(address, files[filename])


def sha256_of(path):
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()


def download(url, path):
    """Streams an address to a file."""
    shown = -1
    with open_url(url) as answer, open(path, "wb") as out:
        size = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(1 << 20):
            out.write(block)
            percent = 100 * out.tell() // size if size else 0
            if sys.stderr.isatty() and percent != shown:
                print(f"\rfetch: {percent:3} % of {size >> 20} MiB", end="", file=sys.stderr)
                shown = percent
        if size and out.tell() != size:
            raise OSError(f"the connection ended after {out.tell()} of {size} bytes")
    if shown >= 0:
        print(file=sys.stderr)


def fetch(project, filename, expected, path):
    """Downloads to a name of this process and renames, so that a broken download never looks like a whole one."""
    partial = f"{path}.partial.{os.getpid()}"
    try:
        download(file_url(project, filename), partial)
        found = sha256_of(partial)
        if found != expected:
            raise Refused(f"it has SHA-256 {found}, expected {expected}: it was altered on the way; nothing was kept")
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def main():
    known = pins()
    if len(sys.argv) != 3 or sys.argv[1] not in known:
        fail(2, f"usage: scripts/fetch.py NAME DIRECTORY, with NAME one of: {' '.join(sorted(known))}")
    project, filename, expected = known[sys.argv[1]]
    path = os.path.join(sys.argv[2], filename)
    if not (os.path.isfile(path) and sha256_of(path) == expected):
        os.makedirs(sys.argv[2], exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                fetch(project, filename, expected, path)
                break
            except Refused as refusal:
                fail(5, f"cannot have {filename}: {refusal}")
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                if attempt == ATTEMPTS:
                    fail(5, f"cannot download {filename}: {error}. Without a network, put the file at {path} yourself")
                print(f"fetch: {error}; trying again", file=sys.stderr)
                time.sleep(2 * attempt)
    print(path)


if __name__ == "__main__":
    main()
