"""The description of the machine and of the code in the benchmark tables."""

import os
import platform

import torch

from pregao.tracking.code import code


def machine() -> str:
    """Processor, cores, versions and the commit, without the host name."""
    processor = platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {code()}"
    )
