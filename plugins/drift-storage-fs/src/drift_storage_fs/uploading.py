"""One upload while it is locked: what is written to it, and how it becomes a blob. Everything here blocks."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from drift_core.api import BlobStat, Digest, DigestInvalid, OffsetMismatch, UploadId, UploadUnknown
from drift_storage_fs.hashing import Hashes, Running
from drift_storage_fs.layout import FILE_MODE, FOLDER_MODE, Layout, sync_folder
from drift_storage_fs.writeback import begin_writeback

BATCH = 1 << 20
"""Bytes that are written and hashed in one go."""

RECORDED_BYTES = 4 * BATCH
"""From this size on other workers are told the hash; a smaller upload they read again sooner than a record is made."""

WRITEBACK_BYTES = 4 * BATCH
"""How much is handed to the disk at a time, so that the fsync of a commit has little left to wait for."""

LARGE_PIECE = BATCH // 4
"""A piece of this size goes as it is; smaller ones are joined, since taking the GIL again costs more than a copy."""


def pieces_of(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Yields the same bytes in few pieces."""
    small: list[bytes] = []
    for chunk in chunks:
        if len(chunk) < LARGE_PIECE:
            small.append(chunk)
            continue
        if small:
            yield b"".join(small)
            small.clear()
        yield chunk
    if small:
        yield small[0] if len(small) == 1 else b"".join(small)


class UploadFile:
    """An upload whose lock is held until `close`; used by one thread at a time."""

    __slots__ = ("_handed_over", "_hashes", "fd", "offset", "path", "running", "upload")

    def __init__(self, upload: UploadId, path: Path, hashes: Hashes, fd: int, offset: int) -> None:
        self.upload = upload
        self.path = path
        self.fd = fd
        self.offset = offset
        self.running: Running | None = None
        self._hashes = hashes
        self._handed_over = offset

    @classmethod
    def lock(cls, layout: Layout, hashes: Hashes, upload: UploadId) -> "UploadFile | None":
        """Opens and locks an upload; None where another task or process holds it.

        Raises:
            UploadUnknown: there is no such upload.
        """
        path = layout.upload(upload)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            layout.require(layout.uploads)
            raise UploadUnknown from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock the file may have been committed: to write to it now would change a blob.
            current = os.path.samestat(os.fstat(fd), path.lstat())
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            current = False
        except BaseException:
            os.close(fd)
            raise
        if not current:
            os.close(fd)
            raise UploadUnknown
        return cls(upload, path, hashes, fd, os.fstat(fd).st_size)

    @classmethod
    def lock_at(cls, layout: Layout, hashes: Hashes, upload: UploadId, offset: int | None) -> "UploadFile | None":
        """Like `lock`, ready to be appended to at ``offset``.

        Raises:
            OffsetMismatch: the upload ends elsewhere.
        """
        file = cls.lock(layout, hashes, upload)
        if file is None:
            return None
        if offset not in (None, file.offset):
            file.close()
            raise OffsetMismatch(file.offset)
        file.running = hashes.resume(upload, file.offset)
        return file

    def close(self) -> None:
        """Releases the lock."""
        os.close(self.fd)

    def write(self, chunks: Sequence[bytes]) -> None:
        """Appends; a piece that cannot be written whole leaves nothing behind."""
        for piece in pieces_of(chunks):
            try:
                self._write_whole(piece)
            except OSError:
                with suppress(OSError):  # what then is too much only costs the commit a read
                    os.ftruncate(self.fd, self.offset)
                raise
            self.offset += len(piece)
            if self.running is not None:
                self.running.update(piece)
        if self.offset - self._handed_over >= WRITEBACK_BYTES:
            begin_writeback(self.fd, self._handed_over, self.offset - self._handed_over)
            self._handed_over = self.offset

    def _write_whole(self, piece: bytes) -> None:
        rest, at = memoryview(piece), self.offset
        while rest:
            written = os.pwrite(self.fd, rest, at)
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest, at = rest[written:], at + written

    def finish(self, previous: Future[None] | None, chunks: Sequence[bytes]) -> int:
        """Waits for the write before, appends the last chunks, records the hash and releases the lock.

        Returns the bytes now held. Waiting cannot block the pool: it starts jobs in order, so that ``previous``,
        submitted earlier, already has a thread.
        """
        try:
            if previous is not None:
                previous.result()
            self.write(chunks)
        finally:
            try:
                self._keep_hash()
            finally:
                self.close()
        return self.offset

    def _keep_hash(self) -> None:
        if self.running is not None:
            if self.offset >= RECORDED_BYTES:
                self._hashes.record(self.upload, self.running)
            self._hashes.put(self.upload, self.running)
        if os.fstat(self.fd).st_nlink == 0:  # aborted meanwhile
            self._hashes.drop(self.upload)
            raise UploadUnknown


class Committer:
    """Makes uploads into blobs."""

    def __init__(self, layout: Layout, hashes: Hashes, *, fsync: bool) -> None:
        self._layout = layout
        self._hashes = hashes
        self._fsync = fsync
        self._durable: set[Path] = set()

    def commit(self, upload: UploadId, digest: Digest) -> BlobStat | None:
        """Checks the digest and moves the file to its place; None where another task or process holds the upload.

        Raises:
            DigestInvalid: the bytes have another digest; the upload stays.
            UploadUnknown: there is no such upload.
        """
        try:
            file = UploadFile.lock(self._layout, self._hashes, upload)
        except UploadUnknown:
            self._sync_committed(digest)
            raise
        if file is None:
            return None
        try:
            return self._commit(file, digest)
        finally:
            file.close()

    def _commit(self, file: UploadFile, digest: Digest) -> BlobStat:
        same, running = self._hashes.matches(file.upload, file.fd, file.offset, digest)
        if not same:
            self._keep(file, running)
            raise DigestInvalid(digest=digest)
        modified = self._persist(file)
        try:
            self._move(file, digest)
        except BaseException:
            self._keep(file, running)
            raise
        self._hashes.drop(file.upload)
        return BlobStat(digest, file.offset, modified)

    def _keep(self, file: UploadFile, running: Running | None) -> None:
        if running is not None:
            self._hashes.put(file.upload, running)

    def _persist(self, file: UploadFile) -> float:
        # The time of the commit, not of the last byte: a sweep by age must not take a blob that has only just appeared.
        os.utime(file.fd)
        if self._fsync:
            try:
                os.fsync(file.fd)
            except OSError:
                # The kernel may have given up the pages and call them clean: a second fsync would succeed over lost
                # bytes. The upload cannot be saved; the client sends it again.
                remove_upload(self._layout, self._hashes, file.upload)
                raise
        return os.fstat(file.fd).st_mtime

    def _move(self, file: UploadFile, digest: Digest) -> None:
        target = self._layout.blob(digest)
        folder = target.parent
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)
            self._durable.discard(folder)
        try:
            file.path.replace(target)
        except FileNotFoundError:  # aborted meanwhile
            self._layout.require(folder)
            raise UploadUnknown from None
        self._sync(folder)

    def _sync_committed(self, digest: Digest) -> None:
        # A commit that was cut off may have moved the file and not come to its fsync; who repeats it finds the blob
        # there, and must find it durable.
        target = self._layout.blob(digest)
        if target.exists():
            self._sync(target.parent)

    def _sync(self, folder: Path) -> None:
        if self._fsync:
            sync_folder(folder)
            # Also where another process made the folder: it may not have come to its own fsync yet.
            if folder not in self._durable:
                sync_folder(folder.parent)
                self._durable.add(folder)


def create_upload(layout: Layout, hashes: Hashes, upload: UploadId, algorithm: str) -> None:
    """Makes an empty upload."""
    try:
        os.close(os.open(layout.upload(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileNotFoundError:
        layout.require(layout.uploads)
        raise
    hashes.begin(upload, algorithm)


def remove_upload(layout: Layout, hashes: Hashes, upload: UploadId) -> None:
    """Removes an upload with all that belongs to it, if it exists."""
    layout.upload(upload).unlink(missing_ok=True)
    hashes.drop(upload)
