"""Who is measured: `repl` and its peers, each with the command that copies a bucket and the one that finds nothing to do.

Every peer gets the settings that its own documentation recommends for speed, and none that turns a safety off that it
has by default. All of them run with the same keys against the same server.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Peer:
    """One program in one mode. `copy` and `again` take (endpoint, source, target) and return the command."""

    name: str
    mode: str
    copy: object
    again: object = None


def install(place: Path) -> Path:
    """A virtual environment with the peers that are Python packages, made once; returns where their programs are."""
    stamp, wanted = place / "installed", (HERE / "requirements.txt").read_text(encoding="utf-8")
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing the peers into {place} (once, about 300 MB)", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return place / "bin"


def environment(access: dict[str, str]) -> dict[str, str]:
    """The keys, by the names that all of them read; nothing else of AWS from this machine's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": access["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": access["secret_access_key"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": os.devnull,
    }


def peers(programs: Path) -> list[Peer]:
    """All that are installed."""
    found = [s5cmd(programs / "s5cmd"), *rclone(programs / "rclone"), aws(programs / "aws")]
    s3sync = shutil.which("s3sync") or shutil.which("s3sync", path=Path.home() / ".cargo" / "bin")
    return [*found, *([stream_s3sync(s3sync)] if s3sync else [])]


def s5cmd(program: Path) -> Peer:
    def copy(endpoint, source, target):
        return [program, "--endpoint-url", endpoint, "cp", f"s3://{source}/*", f"s3://{target}/"]

    def again(endpoint, source, target):
        return [program, "--endpoint-url", endpoint, "sync", "--size-only", f"s3://{source}/*", f"s3://{target}/"]

    return Peer("s5cmd", "server-side", copy, again)


def rclone(program: Path) -> list[Peer]:
    def place(endpoint, bucket):
        return f":s3,provider=SeaweedFS,env_auth=true,region=us-east-1,endpoint='{endpoint}':{bucket}"

    def command(verb, *more):
        return lambda endpoint, source, target: [
            program, verb, *more, "--transfers", "32", "--checkers", "32", place(endpoint, source), place(endpoint, target),
        ]

    again = command("sync", "--size-only", "--fast-list")
    return [
        Peer("rclone", "streamed", command("copy", "--disable", "copy"), again),
        Peer("rclone", "server-side", command("copy")),
    ]


def aws(program: Path) -> Peer:
    def command(*words):
        return lambda endpoint, source, target: [
            program, "--endpoint-url", endpoint, "s3", *words, "--only-show-errors", f"s3://{source}", f"s3://{target}",
        ]

    return Peer("aws s3", "server-side", command("cp", "--recursive"), command("sync", "--size-only"))


def stream_s3sync(program: str) -> Peer:
    def command(endpoint, source, target):
        return [
            program, "--source-endpoint-url", endpoint, "--target-endpoint-url", endpoint,
            "--source-force-path-style", "--target-force-path-style", "--source-region", "us-east-1",
            "--target-region", "us-east-1", "--worker-size", "64", f"s3://{source}/", f"s3://{target}/",
        ]

    return Peer("s3sync", "streamed", command, command)
