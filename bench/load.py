"""A mixed load on a source bucket: small and large puts, overwrites, deletes, copies, odd keys, tags, and bursts."""

import concurrent.futures
import datetime
import json
import os
import random
import threading
import time
import urllib.parse

KIB, MIB = 1 << 10, 1 << 20
WRITERS = 4
# Of every hundred changes.
SHARES = {"new": 40, "overwrite": 25, "delete": 8, "copy": 10, "odd": 10, "tag": 6.5, "large": 0.5}
# Keys that are written again and again.
HOT_KEYS = 2000
# S3's least size of a part but the last.
PART_BYTES = 5 * MIB
# What SeaweedFS keeps as it is: it folds `//`, and changes `..`, backslashes, and slashes at either end.
ODD = ["sp ace+plus", "per%cent%2B", "ünï-cödé ☃", "q?a=b&c#d", "quote'(\"<>)", "k" * 200, "a/b/.c/d.", "~tilde,*"]
BURST_SECONDS = 120
BURST_CHANGES = 200


class Load:
    """Writes changes at a rate from threads of its own until `stop`."""

    def __init__(self, s3, sqs, bucket: str, queue: str, rate: float, seed: int) -> None:
        self.s3, self.sqs, self.bucket, self.queue, self.rate = s3, sqs, bucket, queue, rate
        self.chance = random.Random(seed)
        self.counts = dict.fromkeys([*SHARES, "burst"], 0)
        self.tagged: set[str] = set()
        self.fresh = 0
        # How long the source's own server took for each small put, with when: tells a slow server from a slow `repl`.
        self.answers: list[tuple[float, float]] = []
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.pool = concurrent.futures.ThreadPoolExecutor(WRITERS)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.ending.set()
        self.thread.join()
        self.pool.shutdown()

    def run(self) -> None:
        begun, bursts, pending = time.monotonic(), 0, set()
        while not self.ending.wait(1 / self.rate):
            changes = 1
            if time.monotonic() - begun > BURST_SECONDS * (bursts + 1):
                bursts, changes = bursts + 1, BURST_CHANGES
                self.counts["burst"] += 1
            for _ in range(changes):
                pending.add(self.pool.submit(self.change))
            done = {one for one in pending if one.done()}
            pending -= done
            for failure in filter(None, (one.exception() for one in done)):
                self.failure = failure
                return

    def change(self) -> None:
        [kind] = self.chance.choices(list(SHARES), SHARES.values())
        self.counts[kind] += 1
        getattr(self, kind)()

    def hot(self) -> str:
        return f"hot/{self.chance.randrange(HOT_KEYS):04}"

    def put(self, key: str) -> None:
        begun = time.monotonic()
        size = self.chance.choice([0, 1, 700, 4 * KIB, 4 * KIB, 64 * KIB])
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=os.urandom(size), ContentType="application/x-soak", Metadata={"of": "soak"})
        self.answers.append((time.time(), time.monotonic() - begun))

    def new(self) -> None:
        self.fresh += 1
        self.put(f"new/{self.fresh % 97:02}/{self.fresh:07}")

    def overwrite(self) -> None:
        self.put(self.hot())

    def odd(self) -> None:
        self.put(f"odd/{self.chance.choice(ODD)}/{self.chance.randrange(40)}")

    def delete(self) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=self.hot())

    def copy(self) -> None:
        copied = f"copy/of/{self.chance.randrange(10)}"
        self.put(copied)
        self.s3.copy_object(Bucket=self.bucket, Key=self.hot(), CopySource={"Bucket": self.bucket, "Key": copied})

    def tag(self) -> None:
        """A change of tags, with the event that S3 would send and ministack does not."""
        key = f"tagged/{self.chance.randrange(50)}"
        if key not in self.tagged:
            self.put(key)
            self.tagged.add(key)
        tags = [{"Key": "class", "Value": self.chance.choice(["gold", "lead"])}, {"Key": "odd name", "Value": f"a+{self.chance.randrange(9)}"}]
        set_now = self.s3.put_object_tagging(Bucket=self.bucket, Key=key, Tagging={"TagSet": tags})
        version = set_now.get("VersionId") or self.s3.head_object(Bucket=self.bucket, Key=key)["VersionId"]
        self.tell("ObjectTagging:Put", key, version)

    def tell(self, name: str, key: str, version: str) -> None:
        when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        changed = {"key": urllib.parse.quote_plus(key, safe="/"), "versionId": version, "eTag": ""}
        record = {
            "eventVersion": "2.3",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": when,
            "eventName": name,
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": self.bucket, "arn": f"arn:aws:s3:::{self.bucket}"}, "object": changed},
        }
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps({"Records": [record]}))

    def large(self) -> None:
        place = {"Bucket": self.bucket, "Key": f"large/{self.chance.randrange(20)}"}
        upload = self.s3.create_multipart_upload(**place, ContentType="application/x-soak")["UploadId"]
        parts = []
        for number in range(1, self.chance.randrange(2, 5)):
            body = os.urandom(PART_BYTES)
            tag = self.s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
        self.s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
