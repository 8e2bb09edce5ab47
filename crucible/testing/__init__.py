"""For tests of programs that use Crucible: tasks in this process, or a real service.

::

    from crucible.testing import Eager, running_service

    async with Eager(registry) as eager:                 # no queue, no worker
        assert await eager.run("demo.add", [1, 2]) == 3

    async with running_service() as service:             # queue server, api and worker
        async with AsyncCrucible(service.url) as client: ...

In a ``conftest.py``, ``pytest_plugins = ["crucible.testing.fixtures"]`` adds the fixture
``crucible_service``.
"""

from crucible.testing.eager import Eager, eager_evaluations
from crucible.testing.service import RunningService, running_service

__all__ = ["Eager", "RunningService", "eager_evaluations", "running_service"]
