"""The chart: helm finds nothing wrong, each object is what Kubernetes' own schema asks for, and the parts agree."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from drift_core.supervisor import KILL_GRACE
from tests.deploy.dockerfile import image
from tests.server import DRIFT
from tests.tools import ROOT, tool

CHART = ROOT / "examples/deploy/chart"
ONE_NODE: tuple[str, ...] = ()
SEVERAL_NODES = ("--values", str(CHART / "values-several-nodes.yaml"))
EVERY_WAY = pytest.mark.parametrize("values", [ONE_NODE, SEVERAL_NODES], ids=["one-node", "several-nodes"])
KUBERNETES = "1.30"
"""The version whose schema the objects are checked with; what they use is older."""

Objects = dict[str, dict[str, Any]]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("helm"), *arguments], check=False, capture_output=True, text=True)


def rendered(*values: str) -> Objects:
    """Returns the objects of a release named ``registry``, by kind."""
    # A helm that was built by `go install` takes itself for an old Kubernetes.
    done = helm("template", "registry", str(CHART), "--kube-version", KUBERNETES, *values)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one is not None]
    by_kind = {one["kind"]: one for one in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def container(objects: Objects) -> dict[str, Any]:
    (only,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(objects: Objects) -> dict[str, str]:
    """Returns what the container has in its environment, with a stand-in for each secret."""
    return {one["name"]: one.get("value", "postgresql+psycopg://drift@db/drift") for one in container(objects)["env"]}


@EVERY_WAY
def test_helm_finds_nothing_wrong(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART), *values)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@EVERY_WAY
def test_each_object_fits_the_schema_of_kubernetes(values: tuple[str, ...]) -> None:
    for one in rendered(*values).values():
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_what_a_release_has() -> None:
    common = {"ConfigMap", "Deployment", "Service"}
    assert rendered(*ONE_NODE).keys() == common | {"PersistentVolumeClaim"}
    assert rendered(*SEVERAL_NODES).keys() == common | {"Ingress", "PodDisruptionBudget"}


@EVERY_WAY
def test_the_configuration_is_good(values: tuple[str, ...], tmp_path: Path) -> None:
    objects = rendered(*values)
    file = tmp_path / "drift.toml"
    file.write_text(objects["ConfigMap"]["data"]["drift.toml"])
    own = environment(objects)
    assert own["DRIFT_CONFIG"] == f"{container(objects)['volumeMounts'][0]['mountPath']}/drift.toml"
    command = [str(DRIFT), "config", "check"]
    done = subprocess.run(
        command,
        env={**own, "DRIFT_CONFIG": str(file), "PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the configuration is good\n"


@EVERY_WAY
def test_every_variable_of_the_configuration_is_given(values: tuple[str, ...]) -> None:
    objects = rendered(*values)
    asked = set(re.findall(r'env = "(\w+)"', objects["ConfigMap"]["data"]["drift.toml"]))
    assert asked == {one["name"] for one in container(objects)["env"] if "valueFrom" in one}


@EVERY_WAY
def test_what_belongs_together_agrees(values: tuple[str, ...]) -> None:
    objects = rendered(*values)
    pod, only = objects["Deployment"]["spec"]["template"], container(objects)
    (port,) = objects["Service"]["spec"]["ports"]
    assert port["targetPort"] == only["ports"][0]["name"]
    assert environment(objects)["DRIFT_SERVER__BIND_ADDR"].endswith(f":{only['ports'][0]['containerPort']}")
    selectors = [objects["Service"]["spec"]["selector"], objects["Deployment"]["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in [objects.get("PodDisruptionBudget")] if one]
    # Nothing of a version, which an update changes.
    assert all(selector == selectors[0] for selector in selectors)
    assert selectors[0].keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert selectors[0].items() <= pod["metadata"]["labels"].items()
    assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert [*image().entrypoint, *only["args"]] == ["drift", "serve"]
    assert (
        f"{pod['spec']['securityContext']['runAsUser']}:{pod['spec']['securityContext']['runAsGroup']}" == image().user
    )


@pytest.mark.parametrize("drain", [0, 30, 300])
def test_a_pod_is_not_killed_while_it_drains(drain: int) -> None:
    objects = rendered("--set", f"drainSeconds={drain}")
    (_, pause) = container(objects)["lifecycle"]["preStop"]["exec"]["command"]
    assert environment(objects)["DRIFT_SERVER__DRAIN_SECONDS"] == str(drain)
    grace = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(pause) + drain + KILL_GRACE


def test_the_probes_ask_what_they_are_for() -> None:
    only = container(rendered())
    assert only["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # A database that is away must not restart every node.
    assert only["livenessProbe"]["httpGet"]["path"] == only["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_the_ingress_has_no_limits_of_its_own() -> None:
    annotations = rendered(*SEVERAL_NODES)["Ingress"]["metadata"]["annotations"]
    short = {name.removeprefix("nginx.ingress.kubernetes.io/"): value for name, value in annotations.items()}
    assert (short["proxy-body-size"], short["proxy-request-buffering"]) == ("0", "off")


def test_nodes_that_share_a_volume_are_refused() -> None:
    done = helm("template", "registry", str(CHART), "--kube-version", KUBERNETES, "--set", "replicas=2")
    assert "several replicas cannot share a volume" in done.stderr
    assert rendered()["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


def test_a_value_that_nobody_knows_is_refused() -> None:
    done = helm("template", "registry", str(CHART), "--kube-version", KUBERNETES, "--set", "replcas=2")
    assert "'replcas' not allowed" in done.stderr


def test_a_change_of_the_configuration_makes_new_pods() -> None:
    def mark(*values: str) -> str:
        found = rendered(*values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        assert isinstance(found["checksum/configuration"], str)
        return found["checksum/configuration"]

    assert mark() == mark()
    assert mark() != mark("--set", "config=[server]")


def test_the_versions_are_those_of_drift() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    for file in ("compose/compose.yaml", "container/Dockerfile"):
        assert f"drift:{version}" in (CHART.parent / file).read_text()
