"""Every task of the platform in one registry, as both kinds of worker serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.assessments.tasks import build_registry as assessment_tasks
from crucible.evaluation.tasks import EVALUATING
from crucible.evaluation.tasks import build_registry as evaluation_tasks
from crucible.pipelines.tasks import register as register_pipeline
from crucible.workflows.tasks import build_registry as workflow_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.executor.hooks import ExecutorHooks
    from crucible.settings import Settings
    from crucible.worker import TaskRegistry


def build_registry(settings: Settings, observers: Sequence[ExecutorHooks] = ()) -> TaskRegistry:
    """The registry that workers serve, with what its tasks need opened beside the worker.

    Args:
        settings: of the worker.
        observers: notified of what its executor does, where that is in this process.
    """
    registry = evaluation_tasks(settings, observers)
    # Beside evaluations: the same executor runs its safety tests.
    register_pipeline(registry, settings)
    registry.include(assessment_tasks(settings))
    registry.include(workflow_tasks(settings))
    # Programs have limits of their own, and graded ones may take hours by theirs.
    registry.limit(
        settings.task_soft_time_limit_s or None, settings.task_time_limit_s or None, EVALUATING
    )
    return registry
