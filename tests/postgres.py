"""A PostgreSQL of the tests' own, on a port of its own, from Debian's package."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Postgres:
    """A private cluster; its server refuses to run as root, and then runs as nobody."""

    def __init__(self):
        if not PROGRAMS:
            pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
        self.folder = Path(tempfile.mkdtemp(prefix="pregao-postgres-"))  # pytest's own are closed to other users
        self.user = "nobody" if os.geteuid() == 0 else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.data = self.folder / "data"
        if self.user:
            shutil.chown(self.folder, self.user)
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "pregao", "--no-sync")
        self.uri = f"postgresql://pregao@127.0.0.1:{self.port}/postgres"

    def run(self, program, *arguments):
        command = [str(PROGRAMS[-1] / program), *map(str, arguments)]
        done = subprocess.run(command, user=self.user, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self.run("pg_ctl", "-D", self.data, "-o", options, "-l", self.data / "log", "-w", "start")
        return self

    def stop(self, how="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", how, "-w", "stop")

    def remove(self):
        if (self.data / "postmaster.pid").exists():
            with contextlib.suppress(AssertionError):  # a test has killed it
                self.stop("immediate")
        shutil.rmtree(self.folder)

    def signal(self, number):
        os.kill(int((self.data / "postmaster.pid").read_text().splitlines()[0]), number)

    def kill(self):
        self.signal(signal.SIGKILL)


@pytest.fixture(scope="session")
def postgres():
    server = Postgres().start()
    yield server
    server.remove()
