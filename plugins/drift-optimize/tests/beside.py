"""Runs ``drift optimize`` in this process beside a server, and works on images with what happens in between."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from click.testing import CliRunner, Result
from drift_optimize.commands import optimize
from drift_optimize.jobs import Job, find, take_one
from drift_optimize.optimization import Optimization

from drift_core.api import Identity, LocalRegistry, StartError, open_driver, open_registry
from drift_core.config import load

from .registry import Optimized


def drift_optimize(registry: Optimized, *words: str, settings: tuple[str, ...] = ()) -> Result:
    """Runs the command with the configuration of the server; ``settings`` are added to it.

    A `StartError`, of which ``drift`` shows the message, is the exception of the result.
    """
    added = [part for setting in settings for part in ("--set", setting)]
    done = CliRunner().invoke(
        optimize, [*words, *registry.server.arguments(), *added], env={"COLUMNS": "300"}, prog_name="drift optimize"
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit | StartError):
        raise done.exception
    return done


def ran(registry: Optimized, wanted: str, *settings: str, code: int = 0) -> dict[str, Any]:
    """Returns the one job that ``drift optimize run`` has worked on."""
    done = drift_optimize(registry, "run", "--json", wanted, settings=settings)
    assert done.exit_code == code, done.output
    (job,) = json.loads(done.stdout)
    return dict(job)


@asynccontextmanager
async def beside(registry: Optimized, *settings: str) -> AsyncIterator[tuple[LocalRegistry, Optimization]]:
    """Opens the registry and the feature as a command does, with the configuration of the server and ``settings``."""
    config = load(None, {}, [*registry.server.settings, *settings])
    async with (
        open_registry(config, Identity("tester", "command")) as own,
        open_driver(config, "features", "optimization") as feature,
    ):
        yield own, feature


async def worked(feature: Optimization, registry: LocalRegistry, repository: str, tag: str) -> Job:
    """Works on an image by ``registry``, and returns the job; no server may take it meanwhile."""
    feature.use(registry)
    (number,) = await feature.ask_for(repository, tag)
    job = await feature.records.write(partial(take_one, job=number))
    assert job is not None
    await feature.optimize(job)
    ended = await feature.records.read(partial(find, job=number))
    assert ended is not None
    return ended
