"""The memory that processes take, as Linux counts it.

Not ``ru_maxrss``: it counts the moment between fork and exec too, in which a new process has the
size of its parent, and so says too much of a process whose parent is large.
"""

from pathlib import Path
from typing import Literal


def memory(kind: Literal["VmRSS", "VmHWM"], process: str = "self") -> int:
    """Return the resident size of a process, now (VmRSS) or at its largest (VmHWM), bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) * 1024


def peak_memory() -> int:
    """Return the largest resident size of this process so far, bytes."""
    return memory("VmHWM")
