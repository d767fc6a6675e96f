"""What a plugin offers, and what it is lent for it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from msgspec import Struct
from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from drift_core.protocols.access import Access
from drift_core.protocols.audit import Audit
from drift_core.protocols.optimization import Optimizer
from drift_core.protocols.records import Records
from drift_core.protocols.storage import BlobStore
from drift_core.protocols.transport import ServerSettings


class Services(Struct, frozen=True):
    """What the core lends to a driver while it is open. ``log`` already names the plugin.

    What is registered in ``metrics`` is measured for the plugin; a name that another has raises ValueError. Reading
    fails open: what a collector raises is logged and counted. ``all_metrics`` has those of the core and of every
    plugin in this process, for whoever serves them. ``records`` are for a driver that has ``migrations``; for others
    they raise `StartError`. ``access`` is for routes that have to know who asks before they know what is needed.
    ``serving`` is False where a command has opened the driver: nothing that goes on beside requests belongs there.
    ``beneath`` is the store around which a driver of ``[storage] layers`` lies, None for any other. ``optimizers`` are
    those that are open, by name, for a feature that runs them.
    """

    plugin: str
    log: FilteringBoundLogger
    server: ServerSettings
    metrics: CollectorRegistry
    all_metrics: CollectorRegistry
    records: Records
    access: Access
    audit: Audit
    serving: bool = True
    beneath: BlobStore | None = None
    optimizers: Mapping[str, Optimizer] = {}


OpenedT_co = TypeVar("OpenedT_co", covariant=True)


class Driver(Struct, Generic[OpenedT_co], frozen=True):
    """One named thing that a plugin offers; the operator picks it by ``name`` in the configuration.

    ``config`` is the Struct (``forbid_unknown_fields=True``) that its table is read into. ``open`` gets that Struct
    and the services; heavy imports belong inside it. A Struct with a field ``enabled`` that is false is not opened.

    ``migrations`` names a package of Alembic revisions, such as ``drift_audit.migrations``, which make the tables of
    the plugin, one history for all of its drivers. They run before the server starts; None is a plugin without tables.
    A store that is a ``layer`` lies around another one, which it is lent as `Services.beneath`; only such a one may.

    ``processes`` says for the table of a transport in how many processes of its own it is served, where another in the
    same loop would suffer from it; 0, or no such function: in every worker. Each of them builds the same application.
    A transport with an address of its own reads it from ``bind_addr``: without logins it must be one of this machine.
    With ``ui_bind_addr`` it is opened once more, with that in its place, and serves browsers there.
    What a feature with ``site`` has is served on ``[server] ui_addr``, see `SupportsSite`; at most one is chosen.
    """

    name: str
    config: type[Struct]
    open: Callable[[Any, Services], AbstractAsyncContextManager[OpenedT_co]]
    migrations: str | None = None
    layer: bool = False
    processes: Callable[[Any], int] | None = None
    site: bool = False
