"""The description of the machine in the benchmark tables."""

import os
import platform

import torch


def machine() -> str:
    """Processor, cores and versions, without the host name."""
    processor = platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
