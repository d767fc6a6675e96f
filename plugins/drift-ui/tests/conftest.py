"""A database with the plugin's tables; a console of everybody, one with logins, and a browser."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from drift_core.api import Records
from drift_core.conformance import open_records
from tests.server import Server
from tests.tools import tool

from .browsing import PASSWORDS

SETTINGS = (
    f"auth.basic.users={json.dumps([f'{name}:{password}' for name, password in PASSWORDS.items()])}",
    'auth.chain=["token", "basic"]',
    'rbac.default_role=""',
    "rbac.enabled=true",
    "garbage_collector.enabled=true",
    "scrub.enabled=true",
    "retention.enabled=true",
    "retention.dry_run=true",
    "retention.min_age_days=0",
    "retention.keep=[{newest = 1}]",
    'rbac.admins=["root"]',
    'rbac.public=["open/*"]',
)


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("ui", "drift_ui.migrations", database_url) as records:
        yield records


@pytest.fixture(scope="session")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry in which nobody has to log in."""
    settings = ('ui.registry_host="registry.test:5000"', "garbage_collector.enabled=true")
    with Server(tmp_path_factory.mktemp("free"), *settings) as server:
        yield server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One in which root may do everything, and ann nothing but pull what is open."""
    with Server(tmp_path_factory.mktemp("guarded"), *SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A real browser, which reports its console and every request."""
    options = ChromeOptions()
    options.binary_location = tool("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    folder: Path = tmp_path_factory.mktemp("chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder}"):
        options.add_argument(argument)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    driver = Chrome(options=options, service=Service(executable_path=tool("chromedriver"), env=environment))
    yield driver
    driver.quit()
