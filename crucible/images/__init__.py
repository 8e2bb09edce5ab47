"""The sandbox image: what it holds, how it is built from Debian packages and gets to the engine."""

from crucible.images.build import build_image, ensure_image
from crucible.images.definition import (
    REPOSITORY,
    SANDBOX_GID,
    SANDBOX_UID,
    ImageDefinition,
    load_definition,
)
from crucible.images.store import ImageInfo, list_images

__all__ = [
    "REPOSITORY",
    "SANDBOX_GID",
    "SANDBOX_UID",
    "ImageDefinition",
    "ImageInfo",
    "build_image",
    "ensure_image",
    "list_images",
    "load_definition",
]
