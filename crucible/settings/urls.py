"""URLs in settings: checking them, and masking their secrets. No I/O."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "unix", "sentinel", "redis+socket")
LEGACY_SCHEMES = ("http", "https")
HISTORY_SCHEMES = ("sqlite", "postgresql")
OBJECT_SCHEMES = ("file", "s3")
OTLP_SCHEMES = ("http", "https")
EXECUTOR_SCHEMES = ("http", "https", "unix")
MODEL_SCHEMES = ("http", "https", "file", "s3")
ENGINE_SCHEMES = ("unix", "http", "https", "tcp", "npipe", "ssh")

#: What is wrong with a list of addresses, of which Celery takes the next when one does not answer.
SEVERAL = (
    "names several servers: give one, or sentinel://HOST;HOST/0?master_name=NAME where another "
    "takes its place when it fails"
)
#: Schemes whose path is a file, so an ``@`` in it does not end credentials.
_SOCKET_SCHEMES = frozenset({"unix", "redis+socket", "socket"})
_SECRET_FIELD = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
#: The rest of a password after an ``&`` that should have been quoted.
_NAMELESS_FIELD = re.compile(r"&[^=&]+(?=&|\Z)")
#: One of several addresses, when there are no credentials that a ``;`` may have cut in two.
_PLAIN_ADDRESS = re.compile(r"(?:[a-z+]+://)?(?:\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(?::\d+)?(?:[/?].*)?")


def mask_url(url: str) -> str:
    """``url`` with its passwords replaced by ``***``, for logs and messages.

    Malformed URLs are masked too, since error messages show them; in doubt more is masked.
    """
    masked = _NAMELESS_FIELD.sub("&***", _SECRET_FIELD.sub(r"\1***", url))
    if not url.startswith("sentinel://"):
        return _mask_credentials(masked)
    return ";".join(
        _mask_credentials(part) if "@" in part or _PLAIN_ADDRESS.fullmatch(part) else "***"
        for part in masked.split(";")
    )


def _mask_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    # Up to the last @: a password with an unquoted @, / or # is masked whole.
    credentials, at, place = rest.rpartition("@")
    if not at or (scheme in _SOCKET_SCHEMES and rest.startswith("/")):
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}:***@{place}" if colon else f"{scheme}{separator}***@{place}"


def fault_of(url: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with a URL, without quoting any of it (secrets); empty if it is valid."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in schemes:
        return f"must start with {', '.join(schemes)} and ://"
    if schemes == REDIS_SCHEMES and scheme != "sentinel" and names_several(url):
        return SEVERAL
    if scheme == "sqlite" and not re.fullmatch(r"sqlite:///[^?]+", url):
        return "names no file, such as sqlite:////var/lib/crucible/history.sqlite"
    several = url.split(";") if scheme == "sentinel" else [url]
    try:
        parts = [urlsplit(one if "://" in one else f"sentinel://{one}") for one in several]
        ports = [part.port for part in parts]
    except ValueError:
        return (
            "cannot be read: the port is a number up to 65535, and special characters in a "
            "password are quoted, such as %2F for /"
        )
    if scheme in LEGACY_SCHEMES and not parts[0].hostname:
        return "has no host"
    if 0 in ports:
        return "nothing listens on port 0"
    return _fault_of_database(parts[-1]) if schemes == REDIS_SCHEMES else ""


def names_several(url: str) -> bool:
    """Whether a URL is a list of addresses, as Celery takes it; a ``;`` in a password is none."""
    if re.search(r";\s*[a-z+]+://", url):
        return True
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0].rpartition("@")[2]
    return ";" in place and scheme not in _SOCKET_SCHEMES


def _fault_of_database(url: SplitResult) -> str:
    fields = parse_qs(url.query)
    databases = fields.get("db", []) + fields.get("virtual_host", [])
    if url.scheme not in _SOCKET_SCHEMES:
        databases.append(url.path)
    if not all(re.fullmatch(r"/*[0-9]{0,9}/*", text) for text in databases):
        return "the database must be a number, such as 0 in redis://127.0.0.1:6380/0"
    if url.scheme == "sentinel" and "master_name" not in fields:
        return "needs ?master_name=NAME, the name of the server in the sentinels' configuration"
    return ""
