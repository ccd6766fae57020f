#!/usr/bin/env python3
"""Starts the servers that stand in for AWS, tells where they are in one line of JSON, and ends them when stdin ends.

    cloud.py [--ministack] [--seaweedfs] [--ministack-auth]

`cargo test` and deploy/local/demo use it. Everything listens on 127.0.0.1, on free ports; what the servers store is in a
temporary directory. They end when stdin is closed, on SIGTERM or SIGINT, and when this process is killed outright.

The line: {"ministack": {"endpoint", "access_key_id", "secret_access_key"}, "seaweedfs": {...}, "ministack_auth": {...}},
with those that were asked for.
"""

import argparse
import ctypes
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

# The checkout stays as clean as it was.
sys.dont_write_bytecode = True
import environment

HOST = "127.0.0.1"
# Below the ports that the kernel hands out by itself (32768 and up), also after weed has added 10000 for gRPC.
PORTS = range(12_000, 22_000)
GRPC_OFFSET = 10_000
# seaweedfs needs about 8 s on an idle machine; the rest is for a busy one.
PATIENCE_SECONDS = 120
ATTEMPTS = 5
MINISTACK_SERVICES = "s3,sqs,sns,kms,cloudwatch,events,sts,iam,cloudformation,ec2,autoscaling,logs,ssm"
PR_SET_PDEATHSIG = 1


class Unstarted(Exception):
    """A server did not come up; another try on other ports may help."""


class Server:
    """One child process; it dies with this one, however this one ends."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], place: Path) -> None:
        self.name = name
        self.log = place / f"{name}.log"
        self.command, self.environ, self.place = command, environ, place
        self.log.write_bytes(b"")
        self.launch()

    def launch(self) -> None:
        """Starts the process; again, after it has ended, with the same command in the same place."""
        parent = os.getpid()
        libc = ctypes.CDLL(None, use_errno=True)

        def die_with_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with open(self.log, "ab") as log:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor, which then ends its servers in order.
            self.process = subprocess.Popen(
                self.command,
                env=self.environ,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def await_answer(self, port: int, url: str) -> None:
        """Waits until this very process listens on the port and answers; raises `Unstarted` if it ends or never does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unstarted(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            if listens(self.process.pid, port) and answers(url):
                return
            time.sleep(0.05)
        self.stop()
        raise Unstarted(f"{self.name} did not answer within {PATIENCE_SECONDS} s: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """Ends the process; what it stores is thrown away, so nothing is gained by asking it gently."""
        self.process.kill()
        self.process.wait()


def listens(pid: int, port: int) -> bool:
    """Whether that process, and not another one that took the port meanwhile, listens on the port."""
    address = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    inodes = {row[9] for row in rows if row[1] == address and row[3] == "0A"}
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(f"socket:[{inode}]" in links for inode in inodes)


def answers(url: str) -> bool:
    """Whether anything speaks HTTP there; a refusal is an answer too."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as refusal:
        return refusal.code < 500
    except OSError:
        return False


def free_ports(count: int, offsets: tuple[int, ...] = (0,)) -> list[int]:
    """Different ports that are free now, together with the ports at these offsets from them."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            return found
        if all(is_free(port + offset) for offset in offsets):
            found.append(port)
    raise Unstarted(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def clean_environment() -> dict[str, str]:
    """The environment without what would change how a server behaves: credentials, proxies, Python's own settings."""
    dropped = ("AWS_", "PYTHON", "MINISTACK", "LOCALSTACK", "S3_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def start_ministack(place: Path, auth: bool) -> tuple[Server, dict[str, str]]:
    """Every AWS service that repl talks to. With `auth` it checks signatures and policies, except for its own root."""
    [port] = free_ports(1)
    credentials = {"access_key_id": "test", "secret_access_key": "test"}
    environ = clean_environment() | {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": HOST,
        "SERVICES": MINISTACK_SERVICES,
        "TMPDIR": str(place),
        "LOG_LEVEL": "WARNING",
        # No such socket: ministack shall not look for containers of others on this machine.
        "DOCKER_HOST": f"unix://{place}/none.sock",
    }
    if auth:
        credentials = {"access_key_id": "root" + secrets.token_hex(6), "secret_access_key": secrets.token_hex(20)}
        environ |= {
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": credentials["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_access_key"],
        }
    name = "ministack-auth" if auth else "ministack"
    server = Server(name, [sys.executable, "-m", "ministack"], environ, place)
    endpoint = f"http://{HOST}:{port}"
    server.await_answer(port, f"{endpoint}/_ministack/health")
    return server, {"endpoint": endpoint, **credentials}


def start_seaweedfs(place: Path) -> tuple[Server, dict[str, str]]:
    """A fast S3 that checks signatures. `metrics` in the answer is where it counts its requests."""
    master, volume, filer, s3, metrics = free_ports(5, (0, GRPC_OFFSET))
    access, secret = "weed" + secrets.token_hex(6), secrets.token_hex(20)
    stored = Path(tempfile.mkdtemp(prefix="weed-", dir=place))
    identities = stored / "identities.json"
    grants = {"credentials": [{"accessKey": access, "secretKey": secret}], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
    identities.write_text(json.dumps({"identities": [{"name": "repl", **grants}]}), encoding="utf-8")
    weed = Path(sys.executable).parent / "weed"
    options = {
        "dir": stored,
        "ip": HOST,
        "ip.bind": HOST,
        "master.port": master,
        "volume.port": volume,
        "filer.port": filer,
        "s3.port": s3,
        "s3.config": identities,
        "metricsIp": HOST,
        "metricsPort": metrics,
        # Two more listeners that nobody here asks; left alone they take fixed ports.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        # Volumes are reserved whole: the default of 30 GB each would say "no space left" on a small disk.
        "master.volumeSizeLimitMB": 1024,
        # Each bucket takes seven volumes with its first object, each of them small: far more than the disk would hold full.
        "volume.max": 5000,
    }
    command = [str(weed), "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    server = Server("seaweedfs", command, clean_environment(), place)
    endpoint = f"http://{HOST}:{s3}"
    server.await_answer(s3, f"{endpoint}/healthz")
    try:
        await_storage(server, endpoint, access, secret)
    except Unstarted:
        server.stop()
        raise
    counts = f"http://{HOST}:{metrics}/metrics"
    return server, {"endpoint": endpoint, "access_key_id": access, "secret_access_key": secret, "metrics": counts}


def await_storage(server: Server, endpoint: str, access: str, secret: str) -> None:
    """Waits until an object can be stored: the S3 port answers some seconds before there is a volume to write to."""
    import boto3
    import botocore.config
    import botocore.exceptions

    settings = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    client = boto3.client("s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, config=settings)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            client.delete_object(Bucket="ready", Key="ready")
            client.delete_bucket(Bucket="ready")
            return
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            if server.process.poll() is not None:
                raise Unstarted(f"seaweedfs ended with {server.process.returncode}: {server.last_words()}") from None
            time.sleep(0.1)
    raise Unstarted(f"seaweedfs stores nothing within {PATIENCE_SECONDS} s: {server.last_words()}")


class Clouds:
    """The servers asked for, as a context: they end with it."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.servers: list[Server] = []
        self.directory = tempfile.TemporaryDirectory(prefix="repl-cloud-", ignore_cleanup_errors=True)

    def __enter__(self) -> dict[str, dict[str, str]]:
        try:
            return {name: self.start(name) for name in self.names}
        except BaseException:
            self.__exit__()
            raise

    def start(self, name: str) -> dict[str, str]:
        """Starts one server, on other ports if those that were free a moment ago are not any more."""
        place = Path(self.directory.name)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                server, address = starters[name](place)
                self.servers.append(server)
                return address
            except Unstarted as failure:
                if attempt == ATTEMPTS:
                    raise
                print(f"trying {name} again: {failure}", file=sys.stderr, flush=True)
        raise AssertionError("the last attempt returns or raises")

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.stop()
        self.directory.cleanup()


starters = {
    "ministack": lambda place: start_ministack(place, auth=False),
    "seaweedfs": start_seaweedfs,
    "ministack_auth": lambda place: start_ministack(place, auth=True),
}


def end(*_: object) -> None:
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Starts the servers that stand in for AWS; ends them when stdin ends.")
    parser.add_argument("--ministack", action="store_true", help="every AWS service that repl talks to")
    parser.add_argument("--seaweedfs", action="store_true", help="a fast S3 with real signatures")
    parser.add_argument("--ministack-auth", action="store_true", help="ministack that checks signatures and policies")
    asked = [name for name, wanted in vars(parser.parse_args()).items() if wanted]
    if not asked:
        parser.error("name at least one server")
    environment.enter()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with Clouds(asked) as addresses:
        print(json.dumps(addresses), flush=True)
        while sys.stdin.buffer.read(4096):
            pass


if __name__ == "__main__":
    try:
        main()
    except (environment.Missing, Unstarted) as failure:
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
