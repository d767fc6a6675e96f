"""A Versity S3 Gateway on a folder of its own: a second, different server that speaks S3."""

import os

from tests.services.object_service import ObjectService
from tests.tools import tool


class VersityGateway(ObjectService):
    """versitygw with plain files; what belongs to them is kept beside them, as not every file system has attributes."""

    name = "versitygw"
    health = "/health"

    def command(self) -> list[str]:
        beside = self.folder / "metadata"
        beside.mkdir(exist_ok=True)
        gateway = [tool("versitygw"), "--port", self.address, "--health", self.health, "--quiet"]
        return [*gateway, "posix", "--sidecar", str(beside), str(self.data)]

    def environment(self) -> dict[str, str]:
        return os.environ | {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
