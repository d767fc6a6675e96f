"""Runs images for administrators on the server, where the configuration lets them; `drift bolt run` is the same."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from litestar import Response, post
from msgspec import Meta, Struct

from drift_bolt import running
from drift_bolt.problems import Invalid
from drift_bolt.running import Log, Order
from drift_core.api import EVERYTHING, AuditEvent, Denied, Identity, StartError, TooManyRequests

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

AT_ONCE: Final = 4
"""Containers of one process of the server."""

LOG_BYTES: Final = 64 << 10
"""How much of what a container says is answered: the end of it."""

Word = Annotated[str, Meta(min_length=1, max_length=4096)]


class ContainerRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to run: an image of this registry with a profile, None being the latest version of it.

    ``partial`` runs it without what of the profile cannot be applied. ``seconds`` None is the longest that is allowed.
    """

    image: Word
    profile: Word
    version: Word | None = None
    arguments: Annotated[tuple[Word, ...], Meta(max_length=1000)] = ()
    partial: bool = False
    host_network: bool = False
    cgroups: bool = True
    seconds: Annotated[float, Meta(gt=0)] | None = None


class ContainerAnswer(Struct, frozen=True, kw_only=True):
    """How a container ended: ``exit_code`` None is one that took too long; ``output`` is the end of what it said."""

    exit_code: int | None
    output: str
    truncated: bool
    not_applied: Sequence[str]
    seconds: float


class Launcher:
    """Runs containers, `AT_ONCE` at a time. For one process of the server."""

    def __init__(self, bolt: "Bolt") -> None:
        self._bolt = bolt
        self._running = 0

    async def run(self, asked: ContainerRequest, identity: Identity | None) -> ContainerAnswer:
        """Runs an image until it ends, or takes too long. Cancelling ends it.

        Raises `Denied` where launching is off, `Invalid` where it cannot start, `TooManyRequests`, `Unknown`, and what
        the registry raises for an image that is not there.
        """
        config = self._bolt.config
        if not config.launching:
            raise Denied("no containers are started here: [bolt] launching is false")
        longest = config.launching_seconds
        if asked.seconds is not None and asked.seconds > longest:
            raise Invalid(f"seconds is more than {longest:g}, which launching_seconds says", field="seconds")
        if self._running >= AT_ONCE:
            raise TooManyRequests(f"{AT_ONCE} containers are running already", retry_after=10)
        self._running += 1
        try:
            return await self._run(asked, identity, asked.seconds or longest)
        finally:
            self._running -= 1

    async def _run(self, asked: ContainerRequest, identity: Identity | None, seconds: float) -> ContainerAnswer:
        bolt, log, began = self._bolt, Log(LOG_BYTES), time.monotonic()
        order = Order(
            image=asked.image,
            profile=asked.profile,
            version=asked.version,
            arguments=asked.arguments,
            host_network=asked.host_network,
            cgroups=asked.cgroups,
        )
        try:
            prepared = await running.prepare(bolt, bolt.registry, order)
            refused = prepared.launch.refused
            if refused and not asked.partial:
                raise Invalid("the profile cannot be applied as a whole", not_applied=refused)
            runtime = running.runtime_of(None)
            await bolt.audit.note(_event(asked, prepared.profile, identity))
            try:
                async with asyncio.timeout(seconds):
                    code = await running.run(bolt.registry, prepared, runtime, log=log)
            except TimeoutError:
                code = None
        except StartError as error:
            raise Invalid(str(error)) from error
        return ContainerAnswer(
            exit_code=code,
            output=log.text,
            truncated=log.truncated,
            not_applied=refused,
            seconds=round(time.monotonic() - began, 3),
        )


def _event(asked: ContainerRequest, profile: str, identity: Identity | None) -> AuditEvent:
    return AuditEvent(
        type="ContainerStarted",
        severity="warning",
        identity=identity,
        resource_type="Image",
        resource_id=asked.image,
        parameters={"profile": profile, "arguments": list(asked.arguments)},
    )


def routes(launcher: Launcher) -> Sequence[Any]:
    """Returns the handlers, which are for administrators."""
    from drift_bolt.routes import Asked, answer, read_json  # noqa: PLC0415 - has these routes among its own

    @post("/containers", status_code=200, scope=EVERYTHING, body=ContainerRequest, answers=ContainerAnswer)
    async def launch(request: Asked) -> Response[bytes]:
        """Runs an image with a profile, and answers when it has ended."""
        return answer(await launcher.run(await read_json(request, ContainerRequest), request.user))

    return [launch]
