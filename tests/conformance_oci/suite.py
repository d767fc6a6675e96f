"""Runs the OCI suite with every option on, and lets nothing fail, nothing be skipped and nothing be left out."""

import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.tools import tool

APIS = (
    "PING",
    "PULL",
    "PUSH",
    "BLOBS_ATOMIC",
    "BLOBS_DELETE",
    "BLOBS_DIGEST_HEADER",
    "BLOBS_MOUNT_ANONYMOUS",
    "BLOBS_UPLOAD_CANCEL",
    "MANIFESTS_ATOMIC",
    "MANIFESTS_DELETE",
    "MANIFESTS_DIGEST_HEADER",
    "MANIFESTS_TAG_PARAM",
    "TAGS_ATOMIC",
    "TAGS_DELETE",
    "TAGS_LIST",
    "REFERRER",
)
DATA = (
    "IMAGE",
    "INDEX",
    "INDEX_LIST",
    "SPARSE",
    "ARTIFACT",
    "SUBJECT",
    "SUBJECT_MISSING",
    "ARTIFACT_LIST",
    "SUBJECT_LIST",
    "DATA_FIELD",
    "NONDISTRIBUTABLE",
    "CUSTOM_FIELDS",
    "NO_LAYERS",
    "EMPTY_BLOB",
    "SHA512",
)
FEWEST = 800
"""Passed tests below which the suite cannot have run as a whole."""

PATIENCE = 900.0
"""Seconds after which the suite counts as hanging."""


def settings(version: str, host: str, results: Path, without: Collection[str] = ()) -> dict[str, str]:
    """Returns the suite's environment: every API and kind of data that it knows switched on, but for some APIs."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "OCI_VERSION": version,
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": "conformance/repo1",
        "OCI_REPO2": "conformance/repo2",
        "OCI_RESULTS_DIR": str(results),
        **{f"OCI_API_{name}": str(name not in without).lower() for name in APIS},
        **{f"OCI_DATA_{name}": "true" for name in DATA},
    }


def run_suite(version: str, host: str, folder: Path, without: Collection[str] = ()) -> tuple[Path, str]:
    """Runs the suite, which writes into `folder`; returns the folder of its results and what it printed."""
    results = folder / "results"
    ended = subprocess.run(
        [tool("conformance")],
        env=settings(version, host, results, without),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (results / "junit.xml").exists(), ended.stdout + ended.stderr
    summary = ended.stdout[ended.stdout.find("OCI Conformance Result") :]
    return results, f"{summary}\n{ended.stderr[-4000:]}\nexit code {ended.returncode}"


def check_every_test_passes(version: str, host: str, folder: Path, without: Collection[str] = ()) -> None:
    """No test of the suite fails, is skipped or is disabled, and nothing is left out but what ``without`` names."""
    results, printed = run_suite(version, host, folder, without)
    suites = ET.parse(results / "junit.xml").getroot()  # noqa: S314 - written by the suite that we started
    cases = list(suites.iter("testcase"))
    told = [
        f"{case.get('status')}: {case.get('name')}\n    {(case.findtext('system-out') or '').strip()[:1000]}"
        for case in cases
        if case.get("status") != "passed"
    ]
    summary = "\n".join([*told, printed])
    assert not told, summary
    for kind in ("errors", "failures", "skipped", "disabled"):
        assert int(suites.get(kind, "0")) == 0, f"{kind}\n{summary}"
    configured, _, covered = (results / "results.yaml").read_text().partition("\napis:\n")
    assert configured.count(": false") == len(without), f"an option is off\n{configured}"
    statuses = dict(re.findall(r"^  (\S.*): (\w+)$", covered, re.MULTILINE))
    assert {name for name, status in statuses.items() if status != "Pass"} == set(), summary
    assert len(cases) >= FEWEST, f"only {len(cases)} tests ran\n{summary}"
    assert printed.endswith("exit code 0"), summary
