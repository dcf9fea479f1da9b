"""A private PostgreSQL server from Debian's package."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A cluster on a free port; its server refuses to run as root, and then runs as nobody."""

    def __init__(self):
        if not PROGRAMS:
            pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
        self.folder = Path(tempfile.mkdtemp(prefix="pregao-postgres-"))  # other users cannot enter pytest's folders
        self.user = "nobody" if os.geteuid() == 0 else None
        self.port = free_port()
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
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "-D", self.data, "-o", options, "-l", self.data / "log", "-w", "start")
        return self

    def stop(self, how="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", how, "-w", "stop")

    def kill(self):
        os.kill(int((self.data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)

    def remove(self):
        with contextlib.suppress(AssertionError):  # a test may have killed it
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def database(self, name, template="template1"):
        """The address of a new database."""
        name = re.sub(r"\W", "_", name).lower()
        uri = self.uri.replace("postgresql:", "postgresql+psycopg:")
        with sa.create_engine(uri, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        return self.uri.replace("/postgres", f"/{name}")


@pytest.fixture(scope="session")
def postgres():
    server = Postgres().start()
    yield server
    server.remove()
