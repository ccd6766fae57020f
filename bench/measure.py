"""Runs one command and tells what it took: wall time, CPU time, peak memory, and what the server saw."""

import dataclasses
import os
import re
import statistics
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

KIB = 1 << 10


class Broken(Exception):
    """A measured command failed; the text is one sentence for a person."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one run of one command took."""

    wall: float
    cpu: float
    rss: float
    output: str = ""


def run(command: list, environ: dict[str, str], log: Path) -> Figures:
    """`os.wait4` tells the CPU of exactly this child and what it waited for. Its peak of memory as told there would be
    this process's own from before the exec, so that is read from /proc while the child runs."""
    begun = time.monotonic()
    with open(log, "ab") as errors:
        child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, env=environ)
        # Read beside the waiting: a pipe that is full would stop the child.
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(child.stdout.read()), daemon=True)
        reader.start()
        peak = 0
        while (used := os.wait4(child.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, peak_kib(child.pid))
            time.sleep(0.005)
        wall = time.monotonic() - begun
        reader.join()
    _, status, usage = used
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Broken(f"`{' '.join(map(str, command[:4]))} …` ended with {child.returncode}: see {log}")
    output = b"".join(said).decode(errors="replace")
    return Figures(wall, usage.ru_utime + usage.ru_stime, peak / KIB, output)


def peak_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests_seen(metrics: str) -> dict[str, int]:
    """How many S3 requests SeaweedFS has answered since it started, by its own name of their kind."""
    with urllib.request.urlopen(metrics, timeout=10) as page:
        text = page.read().decode()
    seen: dict[str, int] = {}
    for labels, value in re.findall(r"^SeaweedFS_s3_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        kind = re.search(r'type="([^"]*)"', labels)
        name = kind.group(1) if kind else "unknown"
        seen[name] = seen.get(name, 0) + int(float(value))
    return seen


def fewer(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was added between two counts."""
    return {kind: count - before.get(kind, 0) for kind, count in sorted(after.items()) if count > before.get(kind, 0)}


def middle(values: list[float]) -> tuple[float, float]:
    """The median, and half the distance between the least and the greatest."""
    return statistics.median(values), (max(values) - min(values)) / 2
