"""The files of a bucket of an S3 service; needs the extra ``drift-transfer[s3]``."""

# botocore has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import botocore.config
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from drift_transfer.files import BLOCK
from drift_transfer.source import Absent, SourceError

ATTEMPTS = 5
"""How often a request is sent, and how often in a row an answer may break off before the next byte."""

TIMEOUT = 60.0
"""Seconds without a byte after which an answer counts as broken."""


class Bucket:
    """See `Files`; a path is a key behind ``prefix``. Credentials and region are found as every AWS client does."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None, connections: int) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        config = botocore.config.Config(
            connect_timeout=10,
            read_timeout=TIMEOUT,
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
            max_pool_connections=connections,
            # An address is no domain below which a bucket could have a name of its own.
            s3={"addressing_style": "auto" if endpoint is None else "path"},
        )
        session = botocore.session.Session()
        region: Any = session.get_config_variable("region") or "us-east-1"
        self._client: Any = session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config)

    def folders(self, path: str) -> Iterator[str]:
        """See `Files`; of the answers, each of at most 1000 names, one at a time is in memory."""
        prefix = f"{self._prefix}{path}/" if path else self._prefix
        pages = self._client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/"):
                for found in page.get("CommonPrefixes", ()):
                    yield found["Prefix"].removeprefix(prefix).rstrip("/")
        except (BotoCoreError, ClientError) as error:
            raise SourceError(f"cannot be listed: {error} ({self.place(path)})") from error

    def read(self, path: str, limit: int) -> bytes:
        """See `Files`."""
        content = bytearray()
        for block in self.blocks(path):
            content += block
            if len(content) >= limit:
                break
        return bytes(content[:limit])

    def blocks(self, path: str) -> Iterator[bytes]:
        """See `Files`; an answer that breaks off is asked for again from there on."""
        offset, left = 0, ATTEMPTS
        while True:
            body = self._body(path, offset)
            try:
                while block := body.read(BLOCK):
                    yield block
                    offset, left = offset + len(block), ATTEMPTS
            except (BotoCoreError, HTTPError, OSError) as error:
                left -= 1
                if not left:
                    raise SourceError(f"the answer breaks off: {error} ({self.place(path)})") from error
            else:
                return
            finally:
                body.close()

    def place(self, path: str) -> str:
        """See `Files`."""
        return f"s3://{self._bucket}/{self._prefix}{path}"

    def _body(self, path: str, offset: int) -> Any:
        try:
            # The first one without a range: of an empty object there is none.
            part = {"Range": f"bytes={offset}-"} if offset else {}
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + path, **part)["Body"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                raise Absent("is not there") from error
            raise SourceError(f"cannot be read: {error} ({self.place(path)})") from error
        except BotoCoreError as error:
            raise SourceError(f"cannot be read: {error} ({self.place(path)})") from error
