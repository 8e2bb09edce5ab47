"""The images of environments: their definitions, building them, loading them into Docker."""

from crucible.images.build import build_image, ensure_image, present_image
from crucible.images.definition import (
    SANDBOX_GID,
    SANDBOX_UID,
    ImageDefinition,
    definition_of,
    load_definition,
)
from crucible.images.environments import (
    EnvironmentImage,
    ensure_environment,
    ensure_environments,
    environment_images,
)
from crucible.images.store import ImageInfo, find_image, is_local, list_images, open_engine

__all__ = [
    "SANDBOX_GID",
    "SANDBOX_UID",
    "EnvironmentImage",
    "ImageDefinition",
    "ImageInfo",
    "build_image",
    "definition_of",
    "ensure_environment",
    "ensure_environments",
    "ensure_image",
    "environment_images",
    "find_image",
    "is_local",
    "list_images",
    "load_definition",
    "open_engine",
    "present_image",
]
