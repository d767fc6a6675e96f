"""What is measured: the space of the disk, without which every push fails."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Space(Collector):
    """The space below a folder, looked up whenever somebody reads the metrics. Raises OSError where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what an ordinary user may still write, and all that there is."""
        found = os.statvfs(self._folder)
        free, size = (count * found.f_frsize for count in (found.f_bavail, found.f_blocks))
        yield GaugeMetricFamily("drift_filesystem_free_bytes", "Bytes that can still be stored.", value=free)
        yield GaugeMetricFamily("drift_filesystem_size_bytes", "Bytes of the disk that holds the blobs.", value=size)
