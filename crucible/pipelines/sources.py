"""Where a model comes from: what its id stands for, and what may be fetched. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from crucible.errors import InputError
from crucible.validation import quoted

#: Characters of an id or URL.
_MAX_LENGTH = 2048


class Source(NamedTuple):
    """Where a model is.

    Attributes:
        url: of HTTP, or ``s3://BUCKET/NAME``; empty for a file.
        path: of a file; None for a URL.
        name: what the artifact is called in a sandbox.
    """

    url: str
    path: Path | None
    name: str


def source_of(model_id: str, store_url: str, folder: str) -> Source:
    """Where the model of an id is.

    Args:
        model_id: an ``http``, ``https`` or ``file`` URL, or a name in the object store.
        store_url: URL of the object store, ``https`` or ``s3``; empty for none.
        folder: the one that files may be in; empty for none.

    Raises:
        InputError: it stands for nothing that may be fetched.
    """
    if not model_id or len(model_id) > _MAX_LENGTH or not model_id.isprintable():
        raise InputError("model_id", f"must have 1 to {_MAX_LENGTH} printable characters")
    url = model_id
    if "://" not in model_id:
        if not store_url:
            raise InputError(
                "model_id",
                f"{quoted(model_id)} is no URL, and CRUCIBLE_MODEL_URL is not set",
            )
        if ".." in model_id.split("/") or model_id.startswith("/"):
            raise InputError("model_id", "must be a name within the object store")
        url = f"{store_url.rstrip('/')}/{model_id}"
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    if not name or name in (".", "..") or "\0" in name or len(name.encode()) > 200:
        raise InputError("model_id", "must end in the name of a file")
    if parts.scheme in ("http", "https"):
        return Source(url, None, name)
    if parts.scheme == "s3" and _is_within(url, store_url):
        # The deployment's credentials open no other bucket, and nothing beside its prefix.
        return Source(url, None, name)
    if parts.scheme == "file":
        return Source("", _allowed(Path(unquote(parts.path)), folder), name)
    if parts.scheme == "s3":
        raise InputError("model_id", "is outside of CRUCIBLE_MODEL_URL")
    raise InputError("model_id", f"{parts.scheme}:// cannot be fetched; http, https and file can")


def _is_within(url: str, store_url: str) -> bool:
    """Whether an object is below the URL of the object store."""
    return url.startswith(f"{store_url.rstrip('/')}/") and ".." not in url.split("/")


def _allowed(path: Path, folder: str) -> Path:
    """A file within the folder that files may be in, links followed."""
    if not folder:
        raise InputError("model_id", "files may not be fetched here (CRUCIBLE_MODEL_DIR)")
    allowed = Path(folder).resolve()
    found = path.resolve()
    if not found.is_relative_to(allowed):
        raise InputError("model_id", "is outside of CRUCIBLE_MODEL_DIR")
    return found
