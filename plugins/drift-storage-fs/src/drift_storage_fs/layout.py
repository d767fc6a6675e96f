"""Where everything lies below the one folder; the only module that makes a path out of a name."""

import errno
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from drift_core.api import ALGORITHMS, Digest, Unavailable, UploadId, UploadUnknown

UPLOAD = re.compile(r"[0-9a-f]{32}")
FOLDER_MODE = 0o750
FILE_MODE = 0o640


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        # A few file systems cannot fsync a folder and say so; then there is nothing more that a program can do.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


class Layout:
    """The folders of one store; every method that touches the disk blocks and belongs in a thread."""

    def __init__(self, root: str) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would ask the disk and follow links)
        self.blobs = self.root / "blobs"
        self.uploads = self.root / "uploads"
        self._blobs = f"{self.blobs}{os.sep}"

    def blob_path(self, digest: Digest) -> str:
        """Returns where the blob lies if it exists; a plain string, since this is on the path of every pull."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._blobs}{algorithm}{os.sep}{encoded[:2]}{os.sep}{encoded}"

    def blob(self, digest: Digest) -> Path:
        """Returns where the blob lies if it exists."""
        return Path(self.blob_path(digest))

    def upload(self, upload: UploadId) -> Path:
        """Returns the file of an upload.

        Raises:
            UploadUnknown: the text is no upload id, such as ``../x``; no path is made of it.
        """
        if UPLOAD.fullmatch(upload) is None:
            raise UploadUnknown
        return self.uploads / upload

    def state(self, upload: UploadId) -> Path:
        """Returns the file beside an upload that says how far it was hashed."""
        return self.upload(upload).with_suffix(".state")

    def prepare(self, *, fsync: bool) -> None:
        """Makes the folders that are missing."""
        folders = [self.root, self.uploads, self.blobs, *(self.blobs / name for name in ALGORITHMS)]
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if fsync:
            for folder in (self.blobs, self.root):
                sync_folder(folder)
            with suppress(OSError):  # the folder above need not be ours to open
                sync_folder(self.root.parent)

    def probe(self) -> None:
        """Proves that a file can be made, locked, written, read, made durable and removed now."""
        self.require(self.blobs)
        path = self.uploads / f".probe-{uuid4().hex}"
        content = os.urandom(512)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.pwrite(fd, content, 0) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            if os.pread(fd, len(content), 0) != content:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def require(self, folder: Path) -> None:
        """Tells "this file is not there" from "the whole volume is not there", which must not read as 404.

        Raises:
            Unavailable: the folder, made when the store was opened, is gone.
        """
        if not folder.is_dir():
            message = "the storage folder is gone; is the volume mounted?"
            raise Unavailable(message)
