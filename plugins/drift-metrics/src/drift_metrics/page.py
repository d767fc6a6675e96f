"""The page that Prometheus reads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request, Response, get
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from drift_core.api import Services
from drift_metrics.config import MetricsConfig


class Page:
    """One reading at a time, so that many readers take no more than one thread."""

    name = "metrics"

    def __init__(self, config: MetricsConfig, registry: CollectorRegistry) -> None:
        self._config = config
        self._registry = registry
        self._turn = asyncio.Lock()

    def routes(self) -> Sequence[Any]:
        """Returns the one handler; see `SupportsRoutes`."""
        forms = {"text/plain": bytes, "application/openmetrics-text": bytes}

        @get(self._config.endpoint, public=self._config.public, answers=forms)
        async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
            """Returns everything that is measured, in the form that the reader prefers."""
            encode, media_type = choose_encoder(request.headers.get("accept", ""))
            async with self._turn:
                # Files are read, and the collectors of plugins may do anything.
                content = await asyncio.to_thread(encode, self._registry)
            return Response(content, media_type=media_type)

        return [metrics]


@asynccontextmanager
async def open_page(config: MetricsConfig, services: Services) -> AsyncIterator[Page]:
    """Opens the feature."""
    yield Page(config, services.all_metrics)
