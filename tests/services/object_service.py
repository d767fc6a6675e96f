"""What the servers that speak S3 have in common: a key, buckets, and a client to look at what lies there."""

import http.client
from abc import abstractmethod
from functools import cached_property
from typing import Any
from uuid import uuid4

import botocore.session
from botocore.config import Config

from tests.services.service import Service

ACCESS_KEY, SECRET_KEY = "drift-tests", "drift-tests-secret"


class ObjectService(Service):
    """A server whose ``endpoint`` speaks S3 over plain HTTP, path style, region us-east-1."""

    access_key, secret_key = ACCESS_KEY, SECRET_KEY

    @property
    def endpoint(self) -> str:
        """As a URL without a slash at its end."""
        return f"http://{self.address}"

    @property
    @abstractmethod
    def health(self) -> str:
        """The path that answers 200 when the server can be used."""

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @cached_property
    def client(self) -> Any:
        """A botocore client of S3, for tests to make buckets and to look into them."""
        return botocore.session.Session().create_client(
            "s3",
            "us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )

    def new_bucket(self) -> str:
        """Makes an empty bucket and returns its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Returns the size in bytes of every object, by its key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def multipart_uploads(self, bucket: str) -> list[str]:
        """Returns the keys of the multipart uploads that are neither complete nor aborted.

        MinIO lists them only by their whole key, so that this asks for those whose keys it is not told only elsewhere.
        """
        return [upload["Key"] for upload in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    def settings(self, bucket: str) -> list[str]:
        """Returns what ``drift --set`` needs to keep its blobs in a bucket here."""
        return [
            "storage.type=s3",
            f"storage.s3.endpoint={self.endpoint}",
            "storage.s3.region=us-east-1",
            f"storage.s3.bucket={bucket}",
            f"storage.s3.access_key={self.access_key}",
            f"storage.s3.secret_key={self.secret_key}",
            "storage.s3.path_style=true",
        ]
