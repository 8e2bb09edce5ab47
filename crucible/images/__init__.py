"""The sandbox image: its definition, building it from Debian packages, loading it into Docker."""

from crucible.images.build import build_image, ensure_image, present_image
from crucible.images.definition import (
    LATEST,
    REPOSITORY,
    SANDBOX_GID,
    SANDBOX_UID,
    ImageDefinition,
    load_definition,
)
from crucible.images.store import ImageInfo, find_image, is_local, list_images, open_engine

__all__ = [
    "LATEST",
    "REPOSITORY",
    "SANDBOX_GID",
    "SANDBOX_UID",
    "ImageDefinition",
    "ImageInfo",
    "build_image",
    "ensure_image",
    "find_image",
    "is_local",
    "list_images",
    "load_definition",
    "open_engine",
    "present_image",
]
