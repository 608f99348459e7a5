"""An S3 server of this machine, with a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "preference"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-west-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve; gives the URL. Who asks needs KEYS in the environment."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    place = {"LocationConstraint": KEYS["AWS_REGION"]}
    names = ("aws_access_key_id", "aws_secret_access_key", "region_name")
    client = boto3.client("s3", endpoint_url=url, **dict(zip(names, KEYS.values(), strict=True)))
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    try:
        yield url
    finally:
        server.stop()
