"""A bucket of S3, asked by botocore; which failures may pass, and what the others mean, is decided here."""

# botocore has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from hashlib import md5
from math import inf
from threading import Lock
from typing import Any, TypeVar
from zlib import crc32

import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - as botocore names it
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from drift_core.api import RegistryError, StartError, StorageFull, Unavailable
from drift_storage_s3.bucket import BLOCK, Body, Missing, Part, UploadGone
from drift_storage_s3.config import S3Config

T = TypeVar("T")

FALLBACK_REGION = "us-east-1"
"""What services that know no regions expect."""

BATCH = 1000
"""Most keys of one DeleteObjects (S3, "DeleteObjects")."""

OPEN_SECONDS = 3.0
"""How long an operator waits to hear that there is no service."""

CONNECT_SECONDS = 3.0

POOLED = 1024
"""Most connections that are kept for later: each client that reads a blob has one for as long as it takes."""

BODY_SECONDS = 30.0
"""How long a service may be silent after a large body: what was sent may still lie between it and this process."""

LARGE = 256 << 10
"""Bytes from which on a body is large."""

COMPLETE_SECONDS = 60.0
"""How long a service may be silent while it makes an object of its parts, which may take minutes for thousands."""

PAUSE_SECONDS = (0.1, 5.0)
"""The longest pause before the second attempt, and before any: at random, so that those who failed together part."""

NOT_FOUND, TOO_MANY, SERVER_ERROR, NOT_IMPLEMENTED, FULL = 404, 429, 500, 501, 507

PASSING = frozenset(
    {
        "BadDigest",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "XAmzContentChecksumMismatch",
    }
)
"""Codes of failures that may pass, whatever their status: a checksum that differs is that of bytes cut on their way."""

NO_SPACE = frozenset({"InsufficientStorage", "QuotaExceeded", "StorageFull", "XMinioStorageFull"})

UNSUPPORTED = frozenset({"MethodNotAllowed", "NotImplemented"})

ADVICE = {
    "NoSuchBucket": "bucket: there is no such bucket",
    "AccessDenied": "access_key: may not use the bucket",
    "InvalidAccessKeyId": "access_key: is not known there",
    "SignatureDoesNotMatch": "secret_key: is not that of the access_key",
    "InvalidToken": "session_token: is not valid",
    "ExpiredToken": "session_token: has expired",
    "PermanentRedirect": "region: the bucket is in another one",
    "AuthorizationHeaderMalformed": "region: is not the bucket's",
    "403": "access_key: may not use the bucket, or its secret_key is wrong",
    "301": "region: the bucket is in another one",
    "400": "access_key, region or session_token: the service refuses them",
}
"""What an operator has to look at, by the code that the service gives for the bucket; a HEAD has only a status."""


_MODELS = botocore.loaders.create_loader()
"""What botocore has read about S3, which takes it longer than all else to open a bucket."""


def code_of(error: Exception) -> str:
    """Returns what names a failure in logs and answers, which shows no key, secret or URL."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or str(status_of(error))
    return type(error).__name__


def status_of(error: ClientError) -> int:
    """Returns the status of HTTP, 0 where there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def may_pass(error: Exception) -> bool:
    """Says whether the same request may succeed a moment later."""
    if isinstance(error, ClientError):
        status, code = status_of(error), code_of(error)
        if status in {FULL, NOT_IMPLEMENTED} or code in NO_SPACE:
            return False
        return status >= SERVER_ERROR or status == TOO_MANY or code in PASSING
    # Everything that can happen to a connection; the other errors of botocore are about the configuration.
    passing = ConnectionError | HTTPClientError | HTTPError | IncompleteReadError | ResponseParserError | OSError
    return isinstance(error, passing) and not isinstance(error, SSLError)


def explained(operation: str, error: Exception) -> RegistryError:
    """Returns what a client may know of a failure that did not pass."""
    code = code_of(error)
    if isinstance(error, ClientError) and (status_of(error) == FULL or code in NO_SPACE):
        return StorageFull()
    return Unavailable(f"the object service failed: {operation}: {code}")


class S3Bucket:
    """See `Bucket`."""

    verifies = True
    reuses_numbers = True

    def __init__(self, config: S3Config, retried: Callable[[str], None]) -> None:
        self.name = f"s3:{config.bucket}/{config.prefix}"
        self._config = config
        self._retried = retried
        session = botocore.session.Session()
        session.register_component("data_loader", _MODELS)
        self._client = _client(session, config, config.endpoint, config.timeout_seconds)
        self._sender = _client(session, config, config.endpoint, max(BODY_SECONDS, config.timeout_seconds))
        self._patient = _client(session, config, config.endpoint, max(COMPLETE_SECONDS, config.timeout_seconds))
        self._signer = (
            None
            if config.public_endpoint is None
            else _client(session, config, config.public_endpoint, config.timeout_seconds)
        )
        self._bucket = {"Bucket": config.bucket}
        self._written = _written(config)
        self._batches = True
        self._lock = Lock()

    def check(self) -> None:
        """See `Bucket`."""
        try:
            self._ask("HeadBucket", self._client.head_bucket, OPEN_SECONDS, **self._bucket)
        except ClientError as error:
            missing = code_of(error) in {"404", "NoSuchBucket"}
            if not (missing and self._config.create_bucket):
                raise self._refused("NoSuchBucket" if missing else code_of(error)) from error
            self._create()
        except BotoCoreError as error:
            raise self._refused(code_of(error)) from error
        except Unavailable as error:
            message = f"storage.s3.endpoint: {self._place}: {error.message}"
            raise StartError(message) from error

    def put(self, key: str, body: Body) -> None:
        """See `Bucket`."""
        self._do(
            "PutObject",
            self._sends(body).put_object,
            Key=self._key(key),
            Body=body,
            **self._checksum(body),
            **self._written,
        )

    def get(self, key: str, start: int, stop: int) -> "S3Reader":
        """See `Bucket`."""
        reader = S3Reader(self, self._key(key), start, stop)
        reader.open()
        return reader

    def size(self, key: str) -> int:
        """See `Bucket`."""
        try:
            return int(
                self._ask("HeadObject", self._client.head_object, Key=self._key(key), **self._bucket)["ContentLength"]
            )
        except ClientError as error:
            if status_of(error) != NOT_FOUND:
                raise explained("HeadObject", error) from error
        # The answer to HEAD has no code: without the bucket nothing is known of the object.
        self._do("HeadBucket", self._client.head_bucket)
        raise Missing

    def delete(self, keys: Sequence[str]) -> None:
        """See `Bucket`; services without DeleteObjects are found out once, and then asked for one key at a time."""
        if len(keys) == 1 or not self._batches:
            for key in keys:
                self._do("DeleteObject", self._client.delete_object, Key=self._key(key))
            return
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            objects = {"Objects": [{"Key": self._key(key)} for key in batch], "Quiet": True}
            try:
                answer = self._ask("DeleteObjects", self._client.delete_objects, Delete=objects, **self._bucket)
            except ClientError as error:
                if code_of(error) not in UNSUPPORTED:
                    raise explained("DeleteObjects", error) from error
                self._batches = False
                self.delete(keys[first:])
                return
            failed = [one for one in answer.get("Errors", []) if one.get("Code") != "NoSuchKey"]
            if failed:
                message = f"the object service failed: DeleteObjects: {failed[0].get('Code')}"
                raise Unavailable(message)

    def create_multipart(self, key: str) -> str:
        """See `Bucket`."""
        algorithm = {"ChecksumAlgorithm": "CRC32"} if self._config.checksums == "crc32" else {}
        made = self._do(
            "CreateMultipartUpload",
            self._client.create_multipart_upload,
            Key=self._key(key),
            **algorithm,
            **self._written,
        )
        return str(made["UploadId"])

    def put_part(self, key: str, multipart: str, number: int, body: Body) -> Part:
        """See `Bucket`."""
        checksum = self._checksum(body)
        made = self._of_multipart(
            "UploadPart",
            self._sends(body).upload_part,
            Key=self._key(key),
            UploadId=multipart,
            PartNumber=number,
            Body=body,
            **checksum,
        )
        return Part(number, len(body), made["ETag"], checksum.get("ChecksumCRC32"))

    def complete(self, key: str, multipart: str, parts: Sequence[Part]) -> None:
        """See `Bucket`."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({} if part.checksum is None else {"ChecksumCRC32": part.checksum})
            for part in parts
        ]
        self._of_multipart(
            "CompleteMultipartUpload",
            self._patient.complete_multipart_upload,
            Key=self._key(key),
            UploadId=multipart,
            MultipartUpload={"Parts": listed},
        )

    def abort(self, key: str, multipart: str) -> None:
        """See `Bucket`."""
        try:
            self._of_multipart(
                "AbortMultipartUpload",
                self._client.abort_multipart_upload,
                Key=self._key(key),
                UploadId=multipart,
            )
        except UploadGone:
            return

    def presign(self, key: str) -> str | None:
        """See `Bucket`; takes 0.1 ms."""
        client = self._client if self._signer is None else self._signer
        wanted = {"Key": self._key(key), "ResponseContentType": "application/octet-stream", **self._bucket}
        url: str = client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=self._config.redirect_seconds)
        return url

    def close(self) -> None:
        """See `Bucket`."""
        for client in (self._client, self._sender, self._patient, self._signer):
            if client is not None:
                client.close()

    def begin_read(self, key: str, start: int, stop: int) -> Any:
        """Asks for a range of an object, by its full key, and returns the stream of its bytes.

        Raises:
            Missing: there is no such object.
            ClientError: the service refused; and what else `_ask` raises.
        """
        try:
            answer = self._ask(
                "GetObject", self._client.get_object, Key=key, Range=f"bytes={start}-{stop - 1}", **self._bucket
            )
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise Missing from error
            raise explained("GetObject", error) from error
        stream = answer["Body"]
        if int(answer["ContentLength"]) != stop - start:
            stream.close()
            message = "the object service failed: GetObject: another range than was asked for"
            raise Unavailable(message)
        return stream

    def again(self, operation: str, began: float, attempt: int) -> bool:
        """Waits before another attempt at what failed, and returns True, or False where there is no time for it."""
        first, longest = PAUSE_SECONDS
        pause = random.uniform(0, min(longest, first * 2**attempt))  # noqa: S311 - no secret
        if time.monotonic() + pause - began > self._config.retry_seconds:
            return False
        time.sleep(pause)
        self._retried(operation)
        return True

    def _sends(self, body: Body) -> Any:
        return self._client if len(body) < LARGE else self._sender

    @property
    def _place(self) -> str:
        return self._config.endpoint or f"S3 in {self._client.meta.region_name}"

    def _create(self) -> None:
        where = self._client.meta.region_name
        # Amazon refuses its first region as a constraint (S3, "CreateBucket").
        constraint = {} if where == FALLBACK_REGION else {"CreateBucketConfiguration": {"LocationConstraint": where}}
        try:
            self._ask("CreateBucket", self._client.create_bucket, **constraint, **self._bucket)
        except (ClientError, BotoCoreError) as error:
            # Another node may have made it since.
            if code_of(error) != "BucketAlreadyOwnedByYou":
                raise self._refused(code_of(error)) from error

    def _refused(self, code: str) -> StartError:
        advice = ADVICE.get(code, f"bucket: cannot be used: {code}")
        return StartError(f"storage.s3.{advice} ({self._config.bucket} of {self._place})")

    def _key(self, key: str) -> str:
        return self._config.prefix + key

    def _checksum(self, body: Body) -> dict[str, str]:
        match self._config.checksums:
            case "crc32":
                return {"ChecksumCRC32": b64encode(crc32(body).to_bytes(4, "big")).decode()}
            case "md5":
                return {"ContentMD5": b64encode(md5(body, usedforsecurity=False).digest()).decode()}
            case _:
                return {}

    def _of_multipart(self, operation: str, call: Callable[..., Any], **parameters: Any) -> Any:
        try:
            return self._ask(operation, call, **parameters, **self._bucket)
        except ClientError as error:
            if code_of(error) == "NoSuchUpload":
                raise UploadGone from error
            raise explained(operation, error) from error

    def _do(self, operation: str, call: Callable[..., Any], **parameters: Any) -> Any:
        try:
            return self._ask(operation, call, **parameters, **self._bucket)
        except ClientError as error:
            raise explained(operation, error) from error

    def _ask(self, operation: str, call: Callable[..., T], seconds: float = inf, /, **parameters: Any) -> T:
        """Calls, and again where a failure may pass, for ``seconds`` at most.

        Raises:
            ClientError: the service refused.
            Unavailable, StorageFull: what failed did not pass in time, or was not even sent.
        """
        began, attempt = time.monotonic(), 0
        while True:
            try:
                return call(**parameters)
            except (ClientError, BotoCoreError, HTTPError, OSError) as error:
                if not may_pass(error):
                    if isinstance(error, ClientError):
                        raise
                    raise explained(operation, error) from error
                if time.monotonic() - began > seconds or not self.again(operation, began, attempt):
                    raise explained(operation, error) from error
            attempt += 1


class S3Reader:
    """See `Reader`; begins again where a connection broke, as long as that helps."""

    def __init__(self, bucket: S3Bucket, key: str, start: int, stop: int) -> None:
        self._bucket = bucket
        self._key = key
        self._at = start
        self._stop = stop
        self._stream: Any = None
        self._failed_at = start
        self._failed_since = 0.0
        self._attempts = 0

    def open(self) -> Any:
        """Returns the stream of what is still to come. Raises `Missing`, and `Unavailable`."""
        if self._stream is None:
            self._stream = self._bucket.begin_read(self._key, self._at, self._stop)
        return self._stream

    def __iter__(self) -> Iterator[bytes]:
        """See `Reader`."""
        try:
            while self._at < self._stop:
                yield self._block()
        finally:
            self.close()

    def close(self) -> None:
        """See `Reader`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _block(self) -> bytes:
        while True:
            try:
                block: bytes = self.open().read(min(BLOCK, self._stop - self._at))
                if not block:
                    raise IncompleteReadError(actual_bytes=self._at, expected_bytes=self._stop)
            except (BotoCoreError, HTTPError, OSError) as error:
                self.close()
                if not self._again():
                    raise explained("GetObject", error) from error
            except Missing as error:
                message = "the blob was deleted while it was read"
                raise Unavailable(message) from error
            else:
                self._at += len(block)
                return block

    def _again(self) -> bool:
        """Waits before another attempt; who gets on by a few bytes each time has no more time for it."""
        if self._at - self._failed_at >= BLOCK or not self._attempts:
            self._failed_at, self._failed_since, self._attempts = self._at, time.monotonic(), 0
        self._attempts += 1
        return self._bucket.again("GetObject", self._failed_since, self._attempts - 1)


def _client(session: botocore.session.Session, config: S3Config, endpoint: str | None, seconds: float) -> Any:
    path_style = config.endpoint is not None if config.path_style is None else config.path_style
    return session.create_client(
        "s3",
        config.region or session.get_config_variable("region") or FALLBACK_REGION,
        endpoint_url=endpoint,
        verify=config.ca_file or config.verify,
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key,
        aws_session_token=config.session_token,
        config=Config(
            connect_timeout=min(CONNECT_SECONDS, config.timeout_seconds),
            read_timeout=seconds,
            max_pool_connections=POOLED,
            # Failures are retried in one place, which is `_ask`.
            retries={"mode": "standard", "total_max_attempts": 1},
            # The checksum that a request has protects its body; to sign the body, too, would cost a hash of it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A body is a view of a buffer, which the validation does not know and what sends it does.
            parameter_validation=False,
            signature_version="s3v4",
            s3={"addressing_style": "path" if path_style else "virtual", "payload_signing_enabled": False},
        ),
    )


def _written(config: S3Config) -> dict[str, str]:
    """Returns what is said with every object that is written."""
    said = {
        "ServerSideEncryption": config.server_side_encryption,
        "SSEKMSKeyId": config.kms_key_id,
        "StorageClass": config.storage_class,
    }
    return {name: value for name, value in said.items() if value is not None}
