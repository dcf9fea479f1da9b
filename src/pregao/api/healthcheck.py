"""The HEALTHCHECK of the image: whether the server of this container is ready, on the port of its command line."""

import re
import sys
from pathlib import Path
from urllib.request import urlopen

COMMAND = Path("/proc/1/cmdline")
SECONDS = 4

_PORT = re.compile(rb"(?:^|\0)\+*port=(\d+)(?=\0|$)")


def port(command: bytes) -> int:
    """The port of a command line, whose words end with NUL; 5000 if it names none."""
    found = _PORT.findall(command)
    return int(found[-1]) if found else 5000


def main() -> int:
    """0 if the server is ready, else 1."""
    try:
        with urlopen(f"http://127.0.0.1:{port(COMMAND.read_bytes())}/health/ready", timeout=SECONDS):  # nosec B310
            return 0
    except OSError:  # urllib's errors too
        return 1


if __name__ == "__main__":
    sys.exit(main())
