"""`repl run` on a local ministack: from event to visible replica, the start, and what an idle worker takes."""

import concurrent.futures
import datetime
import json
import os
import signal
import statistics
import subprocess
import threading
import time
from pathlib import Path

import measure
import way

REGIONS = ("us-east-1", "eu-west-2")
ACCOUNT = "000000000000"


class Pair:
    """Two versioned buckets, each with a queue that hears of its objects: the source's for `repl`, the target's for us,
    so that one clock, the server's, tells both when an object was written and when its replica became visible."""

    def __init__(self, access: dict[str, str], name: str) -> None:
        import boto3

        keys = {"aws_access_key_id": access["access_key_id"], "aws_secret_access_key": access["secret_access_key"]}
        self.access, self.name = access, name
        self.s3 = [boto3.client("s3", region, endpoint_url=access["endpoint"], **keys) for region in REGIONS]
        self.sqs = [boto3.client("sqs", region, endpoint_url=access["endpoint"], **keys) for region in REGIONS]
        self.buckets = [f"{name}-source", f"{name}-target"]
        self.queues = [self.listen(side) for side in (0, 1)]

    def listen(self, side: int) -> str:
        s3, bucket = self.s3[side], self.buckets[side]
        place = {"CreateBucketConfiguration": {"LocationConstraint": REGIONS[side]}} if side else {}
        s3.create_bucket(Bucket=bucket, **place)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        url = self.sqs[side].create_queue(QueueName=f"{bucket}-events")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGIONS[side]}:{ACCOUNT}:{bucket}-events"
        wanted = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [wanted]}
        )
        self.heard(side, url)
        return url

    def heard(self, side: int, url: str) -> dict[str, float]:
        """Takes what is in the queue: for each key the time of its first event."""
        found: dict[str, float] = {}
        while messages := self.sqs[side].receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                for record in json.loads(message["Body"]).get("Records", []):
                    when = datetime.datetime.fromisoformat(record["eventTime"]).timestamp()
                    key = record["s3"]["object"]["key"]
                    found[key] = min(when, found.get(key, when))
            gone = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
            self.sqs[side].delete_message_batch(QueueUrl=url, Entries=gone)
        return found

    def config(self, place: Path, endpoint: str | None = None) -> Path:
        path = place / f"{self.name}.toml"
        endpoint = endpoint or self.access["endpoint"]
        store = f'endpoint = "{endpoint}"\npath_style = true\n'
        sides = [f'bucket = "{bucket}"\nregion = "{region}"\n{store}' for bucket, region in zip(self.buckets, REGIONS)]
        path.write_text(
            f"[source]\n{sides[0]}\n[targets.dr]\n{sides[1]}\n"
            f'[queue]\nurl = "{self.queues[0]}"\nendpoint = "{endpoint}"\n\n'
            f'[[rules]]\nid = "all"\ntarget = "dr"\n\n[ledger]\npath = "{place / (self.name + ".ledger")}"\n\n'
            '[web]\nlisten = "off"\n[monitoring]\ncloudwatch = false\n',
            encoding="utf-8",
        )
        return path


class Worker:
    """A running `repl run`; it is drained on the way out."""

    def __init__(self, binary: Path, config: Path, environ: dict[str, str], log: Path) -> None:
        self.begun = time.time()
        with open(log, "ab") as errors:
            self.child = subprocess.Popen(
                [binary, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=errors, env=environ
            )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(40)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def put(pair: Pair, key: str) -> tuple[float, float]:
    """Writes one object; tells when it was sent and how long the server took to answer."""
    sent, begun = time.time(), time.monotonic()
    pair.s3[0].put_object(Bucket=pair.buckets[0], Key=key, Body=os.urandom(4096))
    return sent, time.monotonic() - begun


def arrivals(pair: Pair, count: int, patience: float) -> dict[str, float]:
    """For each key when its replica became visible, by the target's own event."""
    found: dict[str, float] = {}
    deadline = time.monotonic() + patience
    while len(found) < count and time.monotonic() < deadline:
        for key, when in pair.heard(1, pair.queues[1]).items():
            found.setdefault(key, when)
        time.sleep(0.2)
    if len(found) < count:
        raise measure.Broken(f"only {len(found)} of {count} objects arrived within {patience:.0f} s")
    return found


def events(pair: Pair, count: int, rate: float) -> dict:
    """`count` objects at `rate` a second, from the moment each is *sent* to the source until its replica is visible:
    so the source's own time for the PUT is in it."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        begun, puts = time.monotonic(), {}
        for number in range(count):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            key = f"live/{number:06}"
            puts[key] = pool.submit(put, pair, key)
        sent = {key: one.result() for key, one in puts.items()}
    arrived = arrivals(pair, count, 60)
    lags = sorted(max(0.0, arrived[key] - sent[key][0]) for key in sent)
    answers = sorted(took for _, took in sent.values())
    return {
        "objects": count,
        "rate": rate,
        "p50": statistics.median(lags),
        "p99": lags[int(len(lags) * 0.99)],
        "max": lags[-1],
        "put_p50": statistics.median(answers),
        "put_p99": answers[int(len(answers) * 0.99)],
    }


def first_copy(binary: Path, pair: Pair, place: Path, environ: dict[str, str]) -> float:
    """Seconds from the start of a process until the one object that waits for it is at the target."""
    put(pair, "waiting")
    with Worker(binary, pair.config(place), environ, place / "log") as worker:
        return arrivals(pair, 1, 60)["waiting"] - worker.begun


def idle(worker: Worker, seconds: float) -> dict:
    """What a worker takes that has nothing to do."""
    time.sleep(5)
    pid = worker.child.pid
    begun, used = time.monotonic(), measure.cpu_seconds(pid)
    threading.Event().wait(seconds)
    share = (measure.cpu_seconds(pid) - used) / (time.monotonic() - begun)
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / measure.KIB
    return {"seconds": seconds, "cpu_share": share, "rss": rss}


def requests(binary: Path, pair: Pair, place: Path, environ: dict[str, str], count: int = 1000) -> dict:
    """What `count` new objects cost in requests whose events wait in the queue; what a worker asks for once is in it."""
    for number in range(count):
        put(pair, f"counted/{number:06}")
    with way.Way(pair.access["endpoint"]) as counting:
        ran = [binary, "run", "--until-idle=1s", "--config", pair.config(place, counting.endpoint)]
        measure.run(ran, environ, place / "log")
        arrivals(pair, count, 60)
        seen = dict(counting.requests)
    s3 = sum(times for kind, times in seen.items() if kind.isupper())
    return {"objects": count, "s3": s3 / count, "sqs": (sum(seen.values()) - s3) / count, "by_kind": seen}
