"""A MinIO server on a folder of its own."""

import os

from tests.services.object_service import ObjectService
from tests.tools import tool


class Minio(ObjectService):
    """MinIO, with one drive, which is durable as its default is."""

    name = "minio"
    health = "/minio/health/ready"

    def command(self) -> list[str]:
        return [tool("minio"), "server", "--quiet", "--address", self.address, str(self.data)]

    def environment(self) -> dict[str, str]:
        own = {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(self.folder),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIO_")}
        return kept | own
