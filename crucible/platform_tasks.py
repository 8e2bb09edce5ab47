"""Every task of the platform in one registry, as both kinds of worker serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.assessments.tasks import build_registry as assessment_tasks
from crucible.evaluation.tasks import build_registry as evaluation_tasks
from crucible.pipelines.tasks import register as register_pipeline
from crucible.workflows.tasks import build_registry as workflow_tasks

if TYPE_CHECKING:
    from crucible.settings import Settings
    from crucible.worker import TaskRegistry


def build_registry(settings: Settings) -> TaskRegistry:
    """The registry that workers serve, with what its tasks need opened beside the worker."""
    registry = evaluation_tasks(settings)
    # Beside evaluations: the same executor runs its safety tests.
    register_pipeline(registry, settings)
    registry.include(assessment_tasks(settings))
    registry.include(workflow_tasks(settings))
    return registry
