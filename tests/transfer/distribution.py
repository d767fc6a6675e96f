"""A real distribution, with its blobs in a folder or in a bucket."""

import http.client
from pathlib import Path

from tests.services.object_service import ObjectService
from tests.services.service import Service
from tests.tools import tool

PREFIX = "registries/old"
"""Where in a bucket it keeps everything."""


class Distribution(Service):
    """Without a ``bucket`` it stores in a folder; with an ``htpasswd`` it wants a login."""

    name = "distribution"

    def __init__(
        self, service: ObjectService | None = None, bucket: str | None = None, htpasswd: Path | None = None
    ) -> None:
        super().__init__()
        storage = f"filesystem: {{rootdirectory: {self.data}}}"
        if service is not None:
            storage = (
                f"s3: {{region: us-east-1, regionendpoint: '{service.endpoint}', forcepathstyle: true, secure: false, "
                f"bucket: {bucket}, rootdirectory: /{PREFIX}, "
                f"accesskey: {service.access_key}, secretkey: {service.secret_key}}}"
            )
        auth = "" if htpasswd is None else f"auth: {{htpasswd: {{realm: tests, path: {htpasswd}}}}}"
        (self.folder / "config.yml").write_text(f"""
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  {storage}
  delete: {{enabled: true}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "{self.address}"}}
{auth}
""")

    @property
    def url(self) -> str:
        """As `drift import registry` takes it."""
        return f"http://{self.address}"

    def command(self) -> list[str]:
        return [tool("registry"), "serve", str(self.folder / "config.yml")]

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {200, 401}
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
