"""The virtual environment that the local clouds live in: made once under target/, found again at once.

Standard library only, as this runs before anything is installed. `enter()` returns only inside the environment.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
# What the pinned packages ask for.
OLDEST_PYTHON = (3, 10)


class Missing(Exception):
    """Something on this machine is missing; the text is one sentence for a person."""


def target_directory() -> Path:
    """Where cargo builds, and so the one place of the repository that may hold what is made by machine."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


def enter() -> None:
    """Makes the environment if needed and starts this very script again in it; returns once inside.

    Raises `Missing` where Python is too old, cannot make environments, or the packages cannot be installed.
    """
    place = target_directory() / "venv"
    if Path(sys.prefix).resolve() == place:
        return
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise Missing(f"Python {found} is too old for the local servers: install Python 3.10 or newer.")
    make(place)
    sys.stdout.flush()
    python = str(place / "bin" / "python3")
    os.execv(python, [python, *sys.argv])


def make(place: Path) -> None:
    """Installs the pinned packages, unless the stamp says that exactly these are there.

    Starts that come together wait for one another: only the first one installs.
    """
    stamp = place / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.parent / "venv.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
            return
        print(f"installing the local servers into {place} (once, about 390 MB)", file=sys.stderr, flush=True)
        install(place)
        stamp.write_text(wanted, encoding="ascii")


def install(place: Path) -> None:
    """A fresh environment with the pinned packages; what a broken earlier try left is removed."""
    shutil.rmtree(place, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", str(place)],
        "Python cannot make a virtual environment here: install its venv module (on Debian: apt-get install python3-venv)",
    )
    pip = [str(place / "bin" / "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(
        [*pip, "-r", str(REQUIREMENTS)],
        f"pip could not install {REQUIREMENTS.name}: see that this machine reaches a package index, then try again",
    )


def run(command: list[str], failure: str) -> None:
    """Runs one step in silence; if it fails, `failure` and the step's own last line become the one error."""
    step = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if step.returncode != 0:
        said = [line.strip() for line in (step.stderr + step.stdout).splitlines() if line.strip()]
        why = next((line for line in said if "error" in line.lower()), said[-1] if said else "it said nothing")
        raise Missing(f"{failure} ({why})")
