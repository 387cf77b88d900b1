"""A server in a process of its own, for the scripts beside this one."""

import os
import re
import socket
import subprocess
import tempfile
import urllib.request


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """`langevin serve` on a free port, until the end of the `with`."""

    def __init__(self, tool, *arguments, environment=None, port=0):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [tool, "serve", "--port", str(port), *arguments], stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        found = re.search(r" at (http://\S+)$", line.strip())
        if not found:
            self.process.wait(10)
            raise RuntimeError(f"the server did not start: {line}{self.messages()}")
        self.address = found[1]
        self.port = int(self.address.rsplit(":", 1)[1])

    def messages(self):
        self.log.seek(0)
        return self.log.read()

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return answer.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError("the server does not stop")


class Checks:
    """Named checks, each on a line; `report` is the exit status."""

    def __init__(self):
        self.failed = []
        self.count = 0

    def __call__(self, name, holds, why=""):
        self.count += 1
        print(("ok    " if holds else "FAIL  ") + name + ("" if holds or why == "" else f": {why}"), flush=True)
        if not holds:
            self.failed.append(name)
        return holds

    def fails(self, name, error, body):
        """The body must raise this error; returns it."""
        try:
            result = body()
        except error as raised:
            self(name, True)
            return raised
        except Exception as raised:  # Another error is what is reported.
            self(name, False, repr(raised))
            return None
        self(name, False, f"no error but {result!r:.200}")
        return None

    def report(self):
        print(f"{self.count} checks, {len(self.failed)} failed")
        return 1 if self.failed else 0
