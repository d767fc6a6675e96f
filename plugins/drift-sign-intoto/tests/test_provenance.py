"""Builders and sources, by both versions of SLSA provenance."""

from collections.abc import Callable
from typing import Any

import pytest
from drift_sign_intoto.provenance import V02, V1

from .conftest import BUILDER, SOURCE, TYPE, Change, judged, provenance, refused, said, said_before, statement, trust

BOTH = pytest.mark.parametrize("kind", [V1, V02])
POLICY = {"builders": (BUILDER,), "sources": (SOURCE,)}
SOURCELESS = "the provenance does not say from what source it is"
OTHER = "the source is not trusted"


@BOTH
def test_what_is_not_changed_is_good(kind: str) -> None:
    """Each case below is one change of this."""
    for make in (said, said_before):
        assert judged(trust(), make(provenance(kind)), **POLICY).good


@BOTH
@pytest.mark.parametrize(
    ("builders", "good"),
    [
        ((), True),
        (("https://builder.example/*",), True),
        (("https://other.example/*", BUILDER), True),
        (("https://builder.example",), False),
        (("https://builder.example/v2", "http*://other.example/*"), False),
    ],
)
def test_builders(kind: str, builders: tuple[str, ...], good: bool) -> None:
    judgement = judged(trust(), said(provenance(kind)), builders=builders)
    assert (judgement.good, judgement.reason) == (good, "" if good else "the builder is not trusted")
    # Who has signed is known all the same.
    assert judgement.key_id == "release"


@BOTH
@pytest.mark.parametrize(
    ("sources", "good"),
    [
        ((), True),
        (("https://git.example/acme/*",), True),
        (("https://git.example/other/*", SOURCE), True),
        (("https://git.example/acme",), False),
        # What went into the build is not what was built.
        (("pkg:pypi/*",), False),
    ],
)
def test_sources(kind: str, sources: tuple[str, ...], good: bool) -> None:
    judgement = judged(trust(), said(provenance(kind)), sources=sources)
    assert (judgement.good, judgement.reason) == (good, "" if good else OTHER)


def sources_v1(**parameters: Any) -> Change:
    return lambda node: node["buildDefinition"].update(externalParameters=parameters)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"source": SOURCE}, ""),
        ({"source": f"git+{SOURCE}"}, ""),
        ({"source": {"uri": SOURCE, "digest": {}}}, ""),
        ({"source": {"repository": SOURCE}}, ""),
        ({"source": SOURCE, "workflow": {"repository": SOURCE}}, ""),
        ({"source": SOURCE, "workflow": {"repository": "https://evil.example"}}, OTHER),
        ({"source": {"uri": "https://evil.example", "repository": SOURCE}}, OTHER),
        ({"source": 1}, "repository is missing or of another type"),
        ({"source": None}, "repository is missing or of another type"),
        ({"source": {"uri": 1}}, "uri is missing or of another type"),
        ({"workflow": {}}, "repository is missing or of another type"),
    ],
)
def test_a_named_source_of_v1(parameters: Any, reason: str) -> None:
    judgement = judged(trust(), said(provenance(V1, sources_v1(**parameters))), sources=(SOURCE,))
    assert (judgement.good, judgement.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"uri": SOURCE}, ""),
        ({"uri": "https://evil.example"}, OTHER),
        ({"uri": None}, "uri is missing or of another type"),
    ],
)
def test_a_named_source_of_v02(source: Any, reason: str) -> None:
    changed = provenance(V02, lambda node: node.update(invocation={"configSource": source}))
    judgement = judged(trust(), said(changed), sources=(SOURCE,))
    assert (judgement.good, judgement.reason) == (not reason, reason)


def without_name(resources: Any) -> dict[str, Change]:
    """Returns for each version the change to provenance that names no source."""
    return {
        V1: lambda node: node.update(buildDefinition={"externalParameters": {}, "resolvedDependencies": resources}),
        V02: lambda node: node.update(invocation={}, materials=resources),
    }


@BOTH
@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ([{"uri": "pkg:pypi/msgspec"}, {"uri": f"git+{SOURCE}"}], ""),
        ([{"uri": "pkg:pypi/msgspec"}], OTHER),
        ([], SOURCELESS),
        (None, SOURCELESS),
        ([None, {}, {"uri": 1}, SOURCE], SOURCELESS),
    ],
)
def test_where_no_source_is_named_one_of_the_materials_counts(kind: str, resources: Any, reason: str) -> None:
    judgement = judged(trust(), said(provenance(kind, without_name(resources)[kind])), sources=(SOURCE,))
    assert (judgement.good, judgement.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        (V1, lambda node: node.pop("runDetails"), "runDetails is missing or of another type"),
        (V1, lambda node: node["runDetails"].pop("builder"), "builder is missing or of another type"),
        (V1, lambda node: node["runDetails"]["builder"].update(id=None), "id is missing or of another type"),
        (V1, lambda node: node.update(builder={"id": BUILDER}, runDetails={}), "builder is missing or of another type"),
        (V1, lambda node: node.pop("buildDefinition"), "buildDefinition is missing or of another type"),
        (
            V1,
            lambda node: node["buildDefinition"].pop("externalParameters"),
            "externalParameters is missing or of another type",
        ),
        (V02, lambda node: node.pop("builder"), "builder is missing or of another type"),
        (V02, lambda node: node["builder"].update(id=[BUILDER]), "id is missing or of another type"),
    ],
)
def test_malformed_provenance(kind: str, change: Callable[[Any], Any], reason: str) -> None:
    changed = said(provenance(kind, change))
    refused(judged(trust(), changed, **POLICY), reason)
    # Without a policy nobody asks.
    assert judged(trust(), changed).good


@BOTH
@pytest.mark.parametrize("predicate", [None, [], "", 1])
def test_provenance_that_is_none(kind: str, predicate: Any) -> None:
    changed = said(statement(lambda node: node.update(predicate=predicate), kind))
    name = "runDetails" if kind == V1 else "builder"
    refused(judged(trust(), changed, builders=("*",)), f"{name} is missing or of another type")
    assert not judged(trust(), changed, sources=("*",)).good


@pytest.mark.parametrize("version", ["v0.1", "v1.1", "v2", ""])
def test_another_version(version: str) -> None:
    """What it says of builders and sources nobody knows."""
    changed = said(statement(kind=f"https://slsa.dev/provenance/{version}"))
    for policy in ({"builders": ("*",)}, {"sources": ("*",)}):
        refused(judged(trust(), changed, **policy), "the version of the provenance is unknown")
    assert judged(trust(), changed).good


def test_what_is_no_provenance() -> None:
    """It has no builder; whether it counts the predicate types say."""
    assert judged(trust(), said(statement()), **POLICY).good
    refused(judged(trust(), said(statement()), predicate_types=(V1, V02)), "the predicate type is none that counts")
    assert judged(trust(), said(statement()), predicate_types=(V1, TYPE)).good
