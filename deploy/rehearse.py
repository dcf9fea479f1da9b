"""Build and run the image where no Docker engine is: python deploy/rehearse.py BASE WORK [NAME=VALUE of an ARG …].

Every instruction of the Dockerfile, in a root folder a stage, by chroot; then CMD as the image's user, as process 1,
on a read-only root with nothing writable but /tmp and the volumes. Asks it for /health, runs HEALTHCHECK, asks for two
forecasts, ends it by SIGTERM. Needs Linux and root. BASE is a root folder like that of the base image, with Python in
/usr/local:

    debootstrap --variant=minbase --include=ca-certificates,python3-venv bookworm BASE
    chroot BASE python3 -m venv /usr/local

It shares this machine's network and pip's settings, and copies what git tracks: so it cannot tell whether .dockerignore
lets through what is copied, nor whether a registry has the base image.
"""

import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PORT = 5000
CLOSES = [54.1, 53.9, 54.4, 54.0, 53.2, 53.5, 52.8, 53.1, 53.9, 54.6, 54.2, 55.0, 55.3, 54.9, 55.6, 55.1, 54.8, 55.4]
CLOSES += [55.9, 55.5]
BUILD_TOOLS = ("pip", "pip3", "gcc", "cc", "make", "git", "curl", "wget")
UNSHARED = ("unshare", "--mount", "--pid", "--fork", "--kill-child")

logger = logging.getLogger("rehearse")


@dataclass
class Stage:
    """What the instructions so far have made.

    Attributes:
        root: its file system.
        env: ENV, for RUN and CMD.
        args: ARG, for RUN only.
        workdir: where RUN and CMD are.
        user: `uid:gid`.
        volumes: VOLUME.
        cmd: CMD.
        healthcheck: HEALTHCHECK's command.
    """

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"})
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def expand(self, text: str) -> str:
        """`$NAME` and `${NAME}`, as the builder expands them in ENV, COPY and WORKDIR."""
        known = {**self.args, **self.env}
        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: known.get(found[1] or found[2], ""), text)

    def inside(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / os.path.join(self.workdir, path).lstrip("/")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Name and arguments of each instruction; continued lines are joined, comments are dropped."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


class Build:
    """The stages of a Dockerfile."""

    def __init__(self, base: Path, work: Path, args: dict[str, str]) -> None:
        self.base = base
        self.work = work
        self.args = args
        self.stages: dict[str, Stage] = {}

    def __call__(self, dockerfile: str) -> Stage:
        """The last stage."""
        for number, (name, rest) in enumerate(instructions(dockerfile)):
            logger.info("%s %s", name, rest)
            started = time.monotonic()
            if name == "FROM":
                stage = self._begin(rest, number)
            else:
                getattr(self, f"_{name.lower()}")(stage, rest)
            if name == "RUN":
                logger.info("  done in %.0f s", time.monotonic() - started)
        return stage

    def _begin(self, rest: str, number: int) -> Stage:
        image, name = re.fullmatch(r"(\S+)(?: AS (\w+))?", rest).groups()  # type: ignore[union-attr]
        root = self.work / f"stage-{name or number}"
        below = self.stages.get(image)
        subprocess.run(["cp", "-a", str(below.root if below else self.base), str(root)], check=True)
        self.stages[name or str(number)] = stage = (
            replace(below, env=dict(below.env), root=root) if below else Stage(root)
        )
        if below is None:  # pip's settings are this machine's, as the network is
            stage.env |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        return stage

    def _arg(self, stage: Stage, rest: str) -> None:
        name, _, default = rest.partition("=")
        stage.args = {**stage.args, name: self.args.get(name, default)}

    def _env(self, stage: Stage, rest: str) -> None:
        stage.env |= {name: stage.expand(value) for name, value in (one.split("=", 1) for one in shlex.split(rest))}

    def _workdir(self, stage: Stage, rest: str) -> None:
        stage.workdir = os.path.join(stage.workdir, stage.expand(rest))
        stage.inside("").mkdir(parents=True, exist_ok=True)

    def _copy(self, stage: Stage, rest: str) -> None:
        words = shlex.split(rest)
        if words[0].startswith("--from="):
            [_, source, target] = words
            origin = self.stages[words[0].removeprefix("--from=")].inside(source)
            subprocess.run(["cp", "-a", str(origin), str(stage.inside(target))], check=True)
            return
        *patterns, target = words
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *patterns]
        files = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
        for file in filter(None, files.split("\0")):
            if "*" in " ".join(patterns) and "/" in file:  # a builder's * does not cross folders, git's does
                continue
            stage.inside(file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, stage.inside(file))
        assert target in ("./", patterns[0]), f"COPY {rest}: only to the same place"

    def _run(self, stage: Stage, rest: str) -> None:
        command = ["chroot", str(stage.root), "/bin/sh", "-c", f"cd {stage.workdir} && {rest}"]
        subprocess.run(command, env={**stage.args, **stage.env}, check=True)

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _volume(self, stage: Stage, rest: str) -> None:
        stage.volumes = json.loads(rest)

    def _cmd(self, stage: Stage, rest: str) -> None:
        stage.cmd = json.loads(rest)

    def _healthcheck(self, stage: Stage, rest: str) -> None:
        stage.healthcheck = json.loads(rest.partition("CMD ")[2])

    def _label(self, stage: Stage, rest: str) -> None:
        assert all("=" in one for one in shlex.split(rest))

    def _expose(self, stage: Stage, rest: str) -> None:
        assert int(rest) == PORT


def contained(stage: Stage, command: list[str]) -> list[str]:
    """A command as the container's process 1: the image's user, a read-only root, the volumes and /tmp to write."""
    root, (user, group) = shlex.quote(str(stage.root)), stage.user.split(":")
    mounts = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
    mounts += [f"mount --bind {root}{volume} {root}{volume}" for volume in stage.volumes]
    mounts += [f"mount -o remount,bind,ro {root}", f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp"]
    inner = shlex.join(["/bin/sh", "-c", 'cd "$0" && exec "$@"', stage.workdir, *command])
    script = " && ".join([*mounts, f"exec chroot --userspec={user}:{group} {root} {inner}"])
    return [*UNSHARED, "/bin/sh", "-c", script]


def answer(path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """An answer's JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as found:
        return json.load(found)


def first_health(process: "subprocess.Popen[bytes]", seconds: float = 60) -> float:
    """Seconds until /health says 200."""
    started = time.monotonic()
    while time.monotonic() < started + seconds and process.poll() is None:
        with suppress(OSError):
            answer("/health")
            return time.monotonic() - started
        time.sleep(0.05)
    raise TimeoutError(f"/health did not answer within {seconds:g} s")


def check(stage: Stage) -> None:
    """The promises that the image makes, kept."""
    left = [
        name
        for name in BUILD_TOOLS
        if shutil.which(
            name, path=":".join(str(stage.root / folder.lstrip("/")) for folder in stage.env["PATH"].split(":"))
        )
    ]
    assert not left, f"build tools in the last stage: {left}"
    process = subprocess.Popen(contained(stage, stage.cmd), env=stage.env)
    try:
        logger.info("/health says 200 after %.1f s", first_health(process))
        [server] = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        status = Path(f"/proc/{server}/status").read_text()
        assert re.search(rf"^Uid:\t{stage.user.split(':')[0]}\t", status, re.MULTILINE), "it runs as somebody else"
        assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), "it is not process 1"
        enter = ["nsenter", f"--target={server}", "--mount", "--pid", "--root", f"--wd={stage.root}"]
        subprocess.run([*enter, *stage.healthcheck], env=stage.env, check=True)
        told = answer("/predict", {"historical_data": CLOSES, "stock": "VALE3"})
        logger.info("VALE3 by %s: %s", told["model"]["stock"], told["preco"])
        told = answer("/predict", {"historical_data": CLOSES, "stock": "PETR4"})
        logger.info("PETR4 by %s: %s", told["model"]["stock"], told["preco"])
        assert told["model"]["stock"] == "SHARED"
        started = time.monotonic()
        os.kill(server, signal.SIGTERM)
        process.wait(30)
        logger.info("SIGTERM ended it with %d after %.1f s", process.returncode, time.monotonic() - started)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def main(base: Path, work: Path, args: dict[str, str]) -> None:
    """Build, check, and say how large it is."""
    stage = Build(base, work, args)((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    size = subprocess.run(["du", "-sm", str(stage.root)], check=True, capture_output=True, text=True).stdout.split()[0]
    logger.info("the last stage has %s MB", size)
    check(stage)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    base, work, *args = sys.argv[1:]
    main(Path(base).resolve(), Path(work).resolve(), dict(one.split("=", 1) for one in args))
