#!/usr/bin/env python3
"""Starts a WebDriver for headless Chromium, tells where it is in one line of JSON, and ends it when stdin ends.

    browser.py

`cargo test` uses it. Chromium and its driver are Debian's packages; where they are missing and this runs as root, they are
installed. Everything listens on 127.0.0.1. The line: {"webdriver": "http://127.0.0.1:PORT"}.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ["chromium", "chromium-driver", "fonts-dejavu-core"]
ADVICE = "install Chromium and its driver (on Debian: apt-get install chromium chromium-driver)"
STARTED = re.compile(rb"successfully on port (\d+)")
PATIENCE_SECONDS = 15


def driver() -> str:
    """The driver's path, after installing it if need be; a sentence for a person where that is not possible."""
    with open(Path(tempfile.gettempdir()) / "repl-browser.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there():
            install()
    return there() or sys.exit(f"there is no chromedriver on this machine: {ADVICE}")


def there() -> str | None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    return shutil.which("chromedriver") if browser else None


def install() -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"there is no Chromium on this machine, and nothing here may install it: {ADVICE}")
    print("installing Chromium (once, about 400 MB)", file=sys.stderr, flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-q", *step], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip().splitlines()
            sys.exit(f"apt-get {step[0]} failed ({said[-1] if said else 'it said nothing'}): {ADVICE}")


def main() -> None:
    process = subprocess.Popen(
        [driver(), "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        for line in process.stdout:
            if found := STARTED.search(line):
                print(json.dumps({"webdriver": f"http://127.0.0.1:{int(found[1])}"}), flush=True)
                break
        else:
            sys.exit(f"chromedriver did not start: {ADVICE}")
        sys.stdin.buffer.read()
    finally:
        # It ends its browsers on SIGTERM, where the machine is not too busy for that: what is left of its group goes with it.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
