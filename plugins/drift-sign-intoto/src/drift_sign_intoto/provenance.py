"""Who has built an image, and from what source, by SLSA provenance.

Source: slsa.dev, ``provenance/v0.2`` and ``provenance/v1``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from drift_sign_cosign.encoding import as_list, as_object, member
from drift_sign_cosign.globs import matches
from drift_sign_cosign.refusal import Refused

from drift_sign_intoto.config import InTotoConfig

ANY = "https://slsa.dev/provenance/"
V02 = f"{ANY}v0.2"
V1 = f"{ANY}v1"


def check_provenance(config: InTotoConfig, predicate_type: str, predicate: Any) -> None:
    """Raises `Refused` where a predicate is provenance, but not by one of the builders or from one of the sources."""
    if not predicate_type.startswith(ANY) or not (config.builders or config.sources):
        return
    if predicate_type not in (V02, V1):
        raise Refused("the version of the provenance is unknown")
    newer = predicate_type == V1
    if config.builders:
        run = member(predicate, "runDetails", dict) if newer else predicate
        builder = member(member(run, "builder", dict), "id", str)
        if not _any_matches(config.builders, builder):
            raise Refused("the builder is not trusted")
    if config.sources:
        named, others = _sources_v1(predicate) if newer else _sources_v02(predicate)
        # What else went into a build says nothing of what was built, unless nothing says it.
        if not named and not others:
            raise Refused("the provenance does not say from what source it is")
        found = [_any_matches(config.sources, uri.removeprefix("git+")) for uri in named or others]
        if not (all(found) if named else any(found)):
            raise Refused("the source is not trusted")


def _sources_v1(predicate: Any) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the URIs of what was asked to be built, and those of everything that went into it."""
    definition = member(predicate, "buildDefinition", dict)
    parameters = member(definition, "externalParameters", dict)
    named = [_uri(parameters[name]) for name in ("source", "workflow") if name in parameters]
    return named, _uris(definition.get("resolvedDependencies"))


def _sources_v02(predicate: Any) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the same of the older version."""
    source = as_object(as_object(as_object(predicate).get("invocation")).get("configSource"))
    named = [member(source, "uri", str)] if "uri" in source else []
    return named, _uris(as_object(predicate).get("materials"))


def _uri(said: Any) -> str:
    """Returns the URI of a source: a text, a resource descriptor, or what GitHub's builders write."""
    return said if isinstance(said, str) else member(said, "uri" if "uri" in as_object(said) else "repository", str)


def _uris(resources: Any) -> list[str]:
    return [uri for one in as_list(resources) if isinstance(uri := as_object(one).get("uri"), str)]


def _any_matches(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)
