"""What a table of measurements says of the machine that it was made on."""

import os
import platform

import torch


def machine() -> str:
    """Processor, cores and versions; nothing that names a host."""
    processor = platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
