"""Stands in for a GhostBay server: its JSON dialect of S3, with the limits and mistakes that its source shows.

``python ghostbay_server.py FOLDER PORT`` serves until it is killed; everything lies in the folder, so that the next one
goes on from there. Not copied: keys that lead out of the folder, which GhostBay follows, and TLS.
"""

import gzip
import hashlib
import json
import re
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

STREAM_CHUNK = 4096
"""Bytes that it reads from a file at a time; a range counts these."""

STATUSES = {"refuse": HTTPStatus.INTERNAL_SERVER_ERROR, "full": HTTPStatus.INSUFFICIENT_STORAGE}

MOST_KEYS = 1000
MOST_PARTS = 10_000
COMPRESSED_FROM = 32
"""Bytes of an answer from which it is compressed where the client allows that."""

TYPES = {".txt": "text/plain", ".json": "application/json", ".xml": "application/xml", ".zip": "application/zip"}

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS objects (bucket TEXT, key TEXT, etag TEXT, size INTEGER, UNIQUE (bucket, key));
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, bucket TEXT, key TEXT);
CREATE TABLE IF NOT EXISTS parts (upload TEXT, number INTEGER, etag TEXT, size INTEGER, UNIQUE (upload, number));
"""

Fault = Literal["refuse", "full", "lose", "cut"]
"""What goes wrong with a request.

``refuse``, ``full``: nothing is done, and the answer is 500, or 507. ``lose``: all is done, and no answer comes.
``cut``: all is done, and half of the body comes.
"""


class Request:
    """One request, as far as GhostBay looks at it."""

    def __init__(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> None:
        split = urlsplit(target)
        self.method = method
        self.target = target
        self.path = unquote(split.path)
        self.query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        self.body = body
        self.body_hash = hashlib.sha256(body).hexdigest()
        self.headers = headers
        _, self.bucket, *rest = self.path.split("/", 2)
        self.key = rest[0] if rest else None


class Answer:
    """What is sent back; ``length`` is a Content-Length that is not that of the body."""

    def __init__(
        self,
        status: HTTPStatus = HTTPStatus.OK,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.length = len(body) if length is None else length


def in_json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


class Refused(Exception):
    """Answered as an error."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def internal(message: str = "Internal server error") -> Refused:
    return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", message)


def invalid(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "InvalidRequest", f"Invalid request: {message}")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class GhostBay:
    """The state of one server; every request is answered in a thread of its own.

    ``requests`` are those so far. ``overwritten`` are the keys, as ``bucket/key``, and the parts, as ``upload/number``,
    that were written although they were there. ``fault`` is asked about each request before it is answered.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.temp = folder / "tmp"
        self.data.mkdir(parents=True, exist_ok=True)
        self.temp.mkdir(exist_ok=True)
        self._catalog = sqlite3.connect(folder / "ghostbay.db", check_same_thread=False, isolation_level=None)
        self._catalog.executescript(f"PRAGMA synchronous = OFF; {SCHEMA}")
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.overwritten: list[str] = []
        self.fault: Callable[[Request], Fault | None] = lambda _: None

    def close(self) -> None:
        self._catalog.close()

    def count(self, pattern: str) -> int:
        """Returns how many requests, as ``METHOD target``, a pattern was found in."""
        return sum(re.search(pattern, f"{request.method} {request.target}") is not None for request in self.requests)

    def answer(self, request: Request) -> Answer:
        """Does what was asked, as the router of GhostBay would have it."""
        try:
            return self._route(request)
        except Refused as refused:
            told = {"Code": refused.code, "Message": str(refused), "RequestId": "00000000-0000-0000-0000-000000000000"}
            return in_json(told, refused.status)
        except OSError:
            # Such as a key that is a folder, or one of whose folders is a key.
            error = {"Code": "InternalError", "Message": "Storage operation failed", "RequestId": "0"}
            return in_json(error, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _route(self, request: Request) -> Answer:
        if request.key is not None:
            routes = self._of_object(request)
        elif request.bucket == "health":
            routes = {"GET": self._health, "HEAD": self._health}
        elif request.bucket:
            routes = {
                "GET": self._list_objects,
                "HEAD": self._list_objects,
                "PUT": self._create_bucket,
                "DELETE": self._delete_bucket,
            }
        else:
            routes = {"GET": self._list_buckets, "HEAD": self._list_buckets}
        if not routes:
            return Answer(HTTPStatus.NOT_FOUND)
        if request.method not in routes:
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED)
        return routes[request.method](request)

    def _of_object(self, request: Request) -> dict[str, Callable[[Request], Answer]]:
        if not request.key:
            return {}
        is_part = "uploadId" in request.query and "partNumber" in request.query
        return {
            "GET": self._get,
            "HEAD": self._head,
            "PUT": self._put_part if is_part else self._put,
            "POST": self._create_upload if "uploads" in request.query else self._complete,
            "DELETE": self._abort if "uploadId" in request.query else self._delete,
        }

    # The catalog

    def _all(self, statement: str, *values: str | int) -> list[Any]:
        with self._lock:
            return self._catalog.execute(statement, values).fetchall()

    def _insert(self, table: str, *values: str | int) -> None:
        try:
            self._all(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", *values)  # noqa: S608
        except sqlite3.IntegrityError as error:
            if table != "buckets":
                self.overwritten.append(f"{values[0]}/{values[1]}")
            raise internal() from error

    def _require_bucket(self, request: Request) -> str:
        if not self._all("SELECT name FROM buckets WHERE name = ?", request.bucket):
            raise Refused(HTTPStatus.NOT_FOUND, "NoSuchBucket", f"Bucket not found: {request.bucket}")
        return request.bucket

    def _file(self, request: Request) -> Path:
        path = (self.data / request.bucket / (request.key or "")).resolve()
        if not path.is_relative_to(self.data.resolve()):
            raise internal()
        return path

    def _find(self, request: Request) -> Path:
        self._require_bucket(request)
        path = self._file(request)
        known = self._all("SELECT 1 FROM objects WHERE bucket = ? AND key = ?", request.bucket, request.key or "")
        if not known or not path.exists():
            raise Refused(HTTPStatus.NOT_FOUND, "NoSuchKey", f"Object not found: {request.key}")
        return path

    def _find_upload(self, request: Request) -> str:
        upload = request.query.get("uploadId", "")
        if not self._all("SELECT 1 FROM uploads WHERE id = ?", upload):
            message = "Upload not found"
            raise invalid(message)
        return upload

    # Buckets

    def _health(self, _: Request) -> Answer:
        return in_json({"status": "healthy", "service": "ghostbay", "version": "0.1.0"})

    def _list_buckets(self, _: Request) -> Answer:
        names = [name for (name,) in self._all("SELECT name FROM buckets ORDER BY rowid")]
        return in_json(
            {
                "Owner": {"Id": "ghostbay", "DisplayName": "GhostBay"},
                "Buckets": {"Bucket": [{"Name": name, "CreationDate": "2025-09-15T00:00:00Z"} for name in names]},
            }
        )

    def _create_bucket(self, request: Request) -> Answer:
        if re.fullmatch(r"[a-z0-9-]{3,63}", request.bucket) is None:
            raise Refused(HTTPStatus.BAD_REQUEST, "InvalidBucketName", "Invalid bucket name")
        if self._all("SELECT 1 FROM buckets WHERE name = ?", request.bucket):
            raise Refused(HTTPStatus.CONFLICT, "BucketAlreadyExists", f"Bucket already exists: {request.bucket}")
        self._insert("buckets", request.bucket)
        return Answer(headers={"Location": f"/{request.bucket}"})

    def _delete_bucket(self, request: Request) -> Answer:
        self._require_bucket(request)
        self._all("DELETE FROM objects WHERE bucket = ?", request.bucket)
        self._all("DELETE FROM buckets WHERE name = ?", request.bucket)
        return Answer(HTTPStatus.NO_CONTENT)

    def _list_objects(self, request: Request) -> Answer:
        self._require_bucket(request)
        most = int(request.query.get("max-keys", MOST_KEYS))
        prefix = request.query.get("prefix")
        rows = self._all(
            "SELECT key, etag, size FROM objects WHERE bucket = ? AND key LIKE ? ORDER BY key LIMIT ?",
            request.bucket,
            f"{prefix or ''}%",
            min(most, MOST_KEYS),
        )
        owner = {"Id": "ghostbay", "DisplayName": "GhostBay"}
        contents = [
            {
                "Key": key,
                "LastModified": "2025-09-15T00:00:00Z",
                "ETag": etag,
                "Size": size,
                "StorageClass": "STANDARD",
                "Owner": owner,
            }
            for key, etag, size in rows
        ]
        return in_json(
            {
                "Name": request.bucket,
                "Prefix": prefix,
                "KeyCount": len(contents),
                "MaxKeys": most,
                "IsTruncated": False,
                "ContinuationToken": request.query.get("continuation-token"),
                "NextContinuationToken": None,
                "Contents": contents,
            }
        )

    # Objects

    def _put(self, request: Request) -> Answer:
        bucket = self._require_bucket(request)
        path = self._file(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.temp / f"tmp_{uuid4()}"
        fresh.write_bytes(request.body)
        try:
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        # The file is replaced by now: a key that is in the catalog already gives 500, with the new bytes in place.
        self._insert("objects", bucket, request.key or "", md5(request.body), len(request.body))
        return Answer(headers={"ETag": f'"{md5(request.body)}"'})

    def _facts(self, path: Path) -> dict[str, str]:
        return {
            "Content-Type": TYPES.get(path.suffix, "binary/octet-stream"),
            "ETag": f'"{path.stat().st_size}"',
            "Last-Modified": "Mon, 15 Sep 2025 00:00:00 GMT",
        }

    def _get(self, request: Request) -> Answer:
        path = self._find(request)
        content = path.read_bytes()
        size = len(content)
        if given := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            start = int(given[1])
            stop = min(int(given[2] or size - 1), size - 1) + 1
            if start >= stop:
                message = "Storage operation failed"
                raise internal(message)
            content = content[start * STREAM_CHUNK : stop * STREAM_CHUNK]
        return Answer(body=content, headers=self._facts(path), length=size)

    def _head(self, request: Request) -> Answer:
        path = self._find(request)
        return Answer(headers=self._facts(path), length=path.stat().st_size)

    def _delete(self, request: Request) -> Answer:
        bucket = self._require_bucket(request)
        self._all("DELETE FROM objects WHERE bucket = ? AND key = ?", bucket, request.key or "")
        if (path := self._file(request)).exists():
            path.unlink()
        return Answer(HTTPStatus.NO_CONTENT)

    # Multipart uploads

    def _create_upload(self, request: Request) -> Answer:
        bucket = self._require_bucket(request)
        upload = f"mpu_{uuid4()}"
        (self.temp / upload).mkdir()
        self._insert("uploads", upload, bucket, request.key or "")
        return in_json({"Bucket": bucket, "Key": request.key, "UploadId": upload})

    def _put_part(self, request: Request) -> Answer:
        number = request.query["partNumber"]
        if re.fullmatch(r"\d{1,9}", number) is None:
            message = "Invalid partNumber"
            raise invalid(message)
        if not 1 <= int(number) <= MOST_PARTS:
            message = "Part number must be between 1 and 10000"
            raise invalid(message)
        upload = self._find_upload(request)
        (self.temp / upload / f"part_{int(number):05}").write_bytes(request.body)
        self._insert("parts", upload, int(number), md5(request.body), len(request.body))
        return Answer(headers={"ETag": f'"{md5(request.body)}"'})

    def _complete(self, request: Request) -> Answer:
        if "uploadId" not in request.query:
            message = "Invalid POST operation"
            raise invalid(message)
        try:
            told = json.loads(request.body)["CompleteMultipartUpload"]["Part"]
            parts = sorted((int(part["PartNumber"]), str(part["ETag"]).strip('"')) for part in told)
        except (ValueError, KeyError, TypeError) as error:
            message = "Invalid JSON"
            raise invalid(message) from error
        upload = self._find_upload(request)
        bucket = self._require_bucket(request)
        if self._all("SELECT bucket, key FROM uploads WHERE id = ?", upload) != [(bucket, request.key)]:
            message = "Upload bucket/key mismatch"
            raise invalid(message)
        files = [self.temp / upload / f"part_{number:05}" for number, _ in parts]
        if not all(file.exists() for file in files):
            message = "Storage operation failed"
            raise internal(message)
        path = self._file(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as whole:
            for file in files:
                whole.write(file.read_bytes())
        shutil.rmtree(self.temp / upload)
        etag = f"{md5(''.join(etag for _, etag in parts).encode())}-{len(parts)}"
        sizes = self._all("SELECT coalesce(sum(size), 0) FROM parts WHERE upload = ?", upload)
        self._insert("objects", bucket, request.key or "", etag, sizes[0][0])
        self._forget(upload)
        location = f"https://{bucket}.s3.amazonaws.com/{request.key}"
        return in_json({"Location": location, "Bucket": bucket, "Key": request.key, "ETag": f'"{etag}"'})

    def _abort(self, request: Request) -> Answer:
        upload = self._find_upload(request)
        shutil.rmtree(self.temp / upload, ignore_errors=True)
        self._forget(upload)
        return Answer(HTTPStatus.NO_CONTENT)

    def _forget(self, upload: str) -> None:
        self._all("DELETE FROM parts WHERE upload = ?", upload)
        self._all("DELETE FROM uploads WHERE id = ?", upload)


class Handler(BaseHTTPRequestHandler):
    """Reads a request and writes the answer, on a connection that stays open."""

    server: "Server"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        bay, request = self.server.bay, Request(self.command, self.path, body, headers)
        bay.requests.append(request)
        fault = bay.fault(request)
        if fault in STATUSES:
            self._send(in_json({"Code": "InternalError", "Message": "", "RequestId": ""}, STATUSES[fault]))
            return
        answer = bay.answer(request)
        request.body = b""  # the requests are kept
        if fault == "lose":
            self.close_connection = True
            return
        if fault == "cut":
            answer.body = answer.body[: len(answer.body) // 2]
        self._send(answer, compressed="gzip" in headers.get("accept-encoding", ""))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  (the names are those of the class above)

    def _send(self, answer: Answer, *, compressed: bool = False) -> None:
        head = self.command == "HEAD"
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        content = answer.body
        if compressed and len(content) >= COMPRESSED_FROM and not head:
            content = gzip.compress(content, 1)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Connection", "close")
        elif answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        if not head:
            self.wfile.write(content)
            if len(answer.body) != answer.length:
                self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is that of the class above)
        """Says nothing."""


class Server(ThreadingHTTPServer):
    """Serves in threads from `start` to `stop`, or in this thread by `serve_forever`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.bay = GhostBay(folder)
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self.bay.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.accepted += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no error of the server
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
