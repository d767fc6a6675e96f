"""Makes one object of all that an upload has."""

from drift_storage_s3 import uploads
from drift_storage_s3.bucket import Missing, Part, UploadGone
from drift_storage_s3.holding import Hold
from drift_storage_s3.service import Numbers, ObjectService
from drift_storage_s3.uploads import Upload


async def join_parts(service: ObjectService, hold: Hold, numbers: Numbers) -> None:
    """Sends the tail behind the parts, of which there are some, and completes the multipart upload.

    Nobody can then write to it any more, not even who held the upload before and was only paused.

    Raises:
        UploadUnknown, UploadBusy: the upload was aborted, or others have taken over.
        Unavailable, StorageFull: the service or the database fails.
    """
    upload = hold.upload
    assert upload.key is not None  # noqa: S101 - it has parts
    assert upload.multipart is not None  # noqa: S101
    parts = await service.records.read(lambda db: uploads.parts_of(db, upload.id))
    try:
        if upload.tail is not None:
            parts.append(await _send_tail(service, upload, upload.tail, (upload.key, upload.multipart), numbers))
        await service.threads.ask("complete", service.bucket.complete, upload.key, upload.multipart, parts)
    except UploadGone:
        # Somebody has completed it who did not come to say so, and then with all of it.
        try:
            whole = await service.threads.ask("size", service.bucket.size, upload.key) == upload.size
        except Missing:
            whole = False
        if not whole:
            await hold.renew()
            raise service.lost(upload.key) from None
    await hold.change(uploads.put_whole)


async def _send_tail(
    service: ObjectService, upload: Upload, tail: str, multipart: tuple[str, str], numbers: Numbers
) -> Part:
    buffer = service.buffers.recall(tail, None)
    if buffer is None:
        buffer = await service.buffers.take(upload.part_size, None)
    try:
        if not buffer.filled:
            await service.load(tail, upload.size - upload.sent, buffer)
        return await service.put_part(*multipart, numbers, buffer.content)
    except Missing as error:
        raise service.lost(tail) from error
    finally:
        service.buffers.give(buffer)
