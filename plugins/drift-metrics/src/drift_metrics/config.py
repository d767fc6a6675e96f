"""The table ``[metrics]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct

# Below /v2 are repositories.
_PATH = r"^/(?!v2(/|$))[A-Za-z0-9._/-]*[A-Za-z0-9]$"


class MetricsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``endpoint`` is the path of the page; if ``public``, nobody has to log in to read it."""

    enabled: bool = True
    endpoint: Annotated[str, Meta(pattern=_PATH)] = "/metrics"
    public: bool = False
