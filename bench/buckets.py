"""The buckets that are copied, what is in them, and whether two of them are equal."""

import concurrent.futures
import hashlib
import os
import random

KIB, MIB = 1 << 10, 1 << 20
PART_BYTES = 8 * MIB
WRITERS = 16
# Objects whose bytes are read and compared after a copy; of all others the size is.
READ_BACK = 40


def client(access: dict[str, str]):
    import boto3
    import botocore.config

    settings = botocore.config.Config(s3={"addressing_style": "path"}, max_pool_connections=2 * WRITERS)
    return boto3.client(
        "s3",
        "us-east-1",
        endpoint_url=access["endpoint"],
        aws_access_key_id=access["access_key_id"],
        aws_secret_access_key=access["secret_access_key"],
        config=settings,
    )


def make(s3, bucket: str) -> str:
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def empty(s3, bucket: str) -> None:
    """Removes every version and the bucket: what one round wrote must not slow the next."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    for page in pages:
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        names = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if names:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def write_small(s3, bucket: str, count: int, size: int, prefix: str) -> None:
    def put(number: int) -> None:
        body = hashlib.sha256(f"{prefix}{number}".encode()).digest() * (size // 32)
        s3.put_object(Bucket=bucket, Key=f"{prefix}{number:08}", Body=body)

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(put, range(count)):
            pass


def write_parts(s3, bucket: str, count: int, size: int) -> None:
    body = os.urandom(PART_BYTES)
    for number in range(count):
        place = {"Bucket": bucket, "Key": f"large/{number}"}
        upload = s3.create_multipart_upload(**place)["UploadId"]
        parts = []
        for part in range(1, size // PART_BYTES + 1):
            unlike = part.to_bytes(8, "big") + number.to_bytes(8, "big") + body[16:]
            sent = s3.upload_part(**place, UploadId=upload, PartNumber=part, Body=unlike)
            parts.append({"PartNumber": part, "ETag": sent["ETag"]})
        s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


def write_whole(s3, bucket: str, count: int, size: int) -> None:
    """Each in one request, so that its ETag is one of a single part."""
    body = os.urandom(PART_BYTES) * (size // PART_BYTES)
    for number in range(count):
        s3.put_object(Bucket=bucket, Key=f"large/{number}", Body=number.to_bytes(8, "big") + body[8:])


def listed(s3, bucket: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", [])}


def digest(s3, bucket: str, key: str) -> str:
    body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    found = hashlib.sha256()
    for piece in body.iter_chunks(MIB):
        found.update(piece)
    return found.hexdigest()


def difference(s3, source: str, target: str) -> str | None:
    """What makes both buckets unequal, in one sentence; `None` where keys, sizes and the bytes of a sample agree."""
    ours, theirs = listed(s3, source), listed(s3, target)
    if ours != theirs:
        unlike = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        return f"{len(unlike)} keys are missing, extra or of another size in {target}, the first is {unlike[0]!r}"
    for key in random.Random(1).sample(sorted(ours), min(READ_BACK, len(ours))):
        if digest(s3, source, key) != digest(s3, target, key):
            return f"{key!r} has other bytes in {target}"
    return None
