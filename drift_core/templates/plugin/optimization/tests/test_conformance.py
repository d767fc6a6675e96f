"""The driver keeps the rules of every optimizer."""

from collections.abc import AsyncIterator

import pytest
from drift_core.api import Optimizer
from drift_core.conformance import OptimizerSuite, services

from ${module}.config import ${prefix}Config
from ${module}.driver import open_optimizer


class Test${prefix}(OptimizerSuite):
    """What else is true of this optimizer belongs here, too."""

    @pytest.fixture
    async def optimizer(self) -> AsyncIterator[Optimizer]:
        """The optimizer as the server opens it."""
        async with open_optimizer(${prefix}Config(), services("${name}")) as optimizer:
            yield optimizer
