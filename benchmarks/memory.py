"""Peak memory of a run by its stages, with four regions and with ten.

Run ``python benchmarks/memory.py --nsd-root ROOT``, on real NSD or on what
``nsd-prep synth ROOT --scale full`` writes (5 GB). Each number of regions runs in a process of its
own with everything that a run makes, and an empty cache; the table shows the peak of each stage, as
the system keeps it, and the largest sum with all processes that it starts, at the times looked at;
then the peak of the largest of these, and the largest sum of all. The exit status is 1 where that
exceeds the limit. Linux alone lets a peak be measured anew.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peak_memory import memory, peak_memory
from rich.console import Console
from rich.table import Table

from nsd_prep.core.parameters import parameters
from nsd_prep.core.progress import Stage
from nsd_prep.pipeline.composition import run_pipeline
from nsd_prep.pipeline.observer import Observer
from nsd_prep.pipeline.prepare import _in_threads

FOUR = ["V1", "V2", "V4", "IT"]
TEN = [*FOUR, "V3", "nsdgeneral", "early", "midventral", "midlateral", "ventral"]
#: Megabytes that a run may take, whatever the regions.
LIMIT = 1200
SECONDS_BETWEEN_LOOKS = 0.05


class Look:
    """Looks at this process and those that it starts, until told to end."""

    def __init__(self) -> None:
        self.others = 0.0
        self.together: dict[str, float] = {}  # by stage
        self.stage = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        own = Path("/proc/self/cmdline").read_bytes()
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            stage, now = self.stage, memory("VmRSS") / 1e6
            for children in Path("/proc/self/task").glob("*/children"):
                with suppress(OSError, IndexError):  # it has ended
                    for child in children.read_text().split():
                        if Path(f"/proc/{child}/cmdline").read_bytes() == own:
                            continue  # it is about to start, and shares what this process has
                        self.others = max(self.others, memory("VmHWM", child) / 1e6)
                        now += memory("VmRSS", child) / 1e6
            self.together[stage] = max(now, self.together.get(stage, 0))


class PeakObserver(Observer):
    """Measures the peak memory of each stage, in megabytes."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.peaks: dict[str, float] = {}
        self._look = look

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Measure from the stage's begin to its end."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
        self._look.stage = name
        with self.stages.stage(name, total) as stage:
            yield stage
        self.peaks[name] = max(peak_memory() / 1e6, self.peaks.get(name, 0))


def measure(root: Path, regions: list[str]) -> bool:
    """Run with regions and print the table; return whether it stays below the limit."""
    look = Look()
    observer = PeakObserver(look)
    with tempfile.TemporaryDirectory() as folder:
        chosen = parameters(
            nsd_root=str(root),
            output_dir=Path(folder) / "out",
            cache_dir=Path(folder) / "cache",
            regions=regions,
        )
        run_pipeline(chosen, _in_threads, observer)
    look.end()
    columns = ("stage", "seconds", "processor", "peak", "with all it starts")
    table = Table(*columns, title=f"{len(regions)} regions")
    for name, peak in observer.peaks.items():
        seconds, worked = observer.stages.seconds[name], observer.stages.processor_seconds[name]
        together = look.together.get(name, peak)
        measured = (f"{seconds:.1f}", f"{worked:.1f}", f"{peak:.0f} MB", f"{together:.0f} MB")
        table.add_row(name, *measured)
    largest = max(look.together.values())
    table.add_row("the largest process beside it", "", "", f"{look.others:.0f} MB")
    table.add_row("all at once", "", "", "", f"{largest:.0f} MB")
    Console().print(table)
    return largest <= LIMIT


def main() -> None:
    """Measure with four and with ten regions."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--nsd-root", type=Path, required=True, help="an NSD dataset")
    command.add_argument("--regions", nargs="+", help="these alone, in this process")
    given = command.parse_args()
    if given.regions:
        raise SystemExit(0 if measure(given.nsd_root, given.regions) else 1)
    below = True
    for regions in (FOUR, TEN):
        words = [sys.executable, __file__, "--nsd-root", str(given.nsd_root), "--regions", *regions]
        below &= subprocess.run(words, check=False).returncode == 0
    raise SystemExit(0 if below else f"more than {LIMIT} MB")


if __name__ == "__main__":
    main()
