"""How errors become exit codes.

0 success, 1 failure (one line on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from crucible.cli.printing import abandon_output, replace_closed_output
from crucible.errors import CrucibleError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def exit_codes() -> Iterator[None]:
    """Exit as a command does when what it runs fails; a defect keeps its traceback."""
    replace_closed_output()
    try:
        yield
    except CrucibleError as error:
        print(f"crucible: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if not _is_of_a_file(error):
            raise
        # The disk is full, or a file named by a flag cannot be written: no defect, so no traceback.
        with suppress(OSError):
            print(f"crucible: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        abandon_output()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _is_of_a_file(error: OSError) -> bool:
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EIO)
