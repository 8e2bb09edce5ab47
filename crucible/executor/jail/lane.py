"""Process 1 of a lane: the supervisor of one program after the other.

It is what process 1 of a container of one program is, with this difference: it does not start
programs itself, since it has seen the requests of those before, and a program would be its copy.
The spawner does, in a process and a pid namespace of its own. Both are in a user namespace whose
root is nobody outside.
"""

import _socket
import gc
import marshal
import posix

from crucible.executor.jail.account import ACCOUNT
from crucible.executor.jail.identity import enter_users, last_capability, set_oom_score
from crucible.executor.jail.kernel import own_code, read_exactly, read_into, set_dumpable
from crucible.executor.jail.lane_memory import LaneMemory
from crucible.executor.jail.namespaces import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_PIDS,
    NEW_UTS,
    READ_ONLY,
    demand,
    make_calls,
    mount,
    rights_to_give_up,
)
from crucible.executor.jail.single import send
from crucible.executor.jail.spawner import Spawner
from crucible.executor.jail.startup import take_over
from crucible.executor.jail.tree import HIDDEN, build_tree, covers, existing, is_there
from crucible.executor.jail.ward import Namespaces, SpawnerLostError, Ward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: The spawner, in itself and its copies: to free what it has would cost them pages.
_kept: "list[Spawner]" = []


def boot_lane() -> "dict[str, Any] | None":
    """Prepare the lane, then run one program after the other.

    Returns:
        in a program, its request; None in whatever else is to exit.
    """
    control, frames = take_over()
    setup = marshal.loads(read_message(control))  # noqa: S302 - from the host, which is trusted
    enter_users(setup["first_id"])
    demand("unshare", NEW_MOUNTS | NEW_IPC | NEW_UTS | NEW_PIDS)
    build_tree()
    setup["last_capability"] = last_capability()
    setup["covers"] = covers(setup["hidden"])
    setup["read_only"] = existing(setup["read_only"])
    setup["account"] = is_there(ACCOUNT.encode())
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()
    if posix.fork() == 0:
        ours.close()
        for fd in (control, frames):
            posix.close(fd)
        # Of its own pid namespace, where it finds what it starts; the supervisor keeps the other.
        demand("unshare", NEW_MOUNTS)
        mount(b"proc", b"/proc", b"proc", HIDDEN & ~READ_ONLY)
        set_oom_score()
        spawner = Spawner(setup, theirs)
        _kept.append(spawner)
        return spawner.serve()
    theirs.close()
    # The spawner alone needs more rights and calls than a program has.
    make_calls(rights_to_give_up(setup["last_capability"], setup["filter"]))
    set_dumpable(0)
    supervise(control, frames, ours, setup)
    return None


def supervise(
    control: int, frames: int, spawner: "_socket.socket", setup: "dict[str, Any]"
) -> None:
    """Run programs, each in namespaces of its own, until there were so many or nobody asks."""
    memory = None
    code = own_code()
    for _ in range(setup["programs"]):
        namespaces = Namespaces(spawner)
        if memory is None:
            memory = LaneMemory()
            send(frames, b"R", code)
        elif not memory.is_free():
            return
        body = read_message(control)
        if not body:
            return
        request: dict[str, Any] = marshal.loads(body)  # noqa: S302 - from the host
        del body
        ward = Ward(
            request, control, frames, namespaces, memory.idle_bytes - setup["overhead_bytes"]
        )
        try:
            ward.run()
        except SpawnerLostError:
            if ward.out_of_memory():
                ward.lose()
            raise
        ward.end()
        ward.skip_pieces()
        namespaces.close()


def read_message(control: int) -> bytearray:
    """One message of the host's; nothing when it hung up."""
    header = read_exactly(control, 4)
    size = int.from_bytes(header, "big")
    body = read_into(control, size) if len(header) == 4 else bytearray()
    return body if len(body) == size else bytearray()


if __name__ == "__main__":
    _request = boot_lane()
    if _request is None:
        posix._exit(0)  # noqa: SLF001 - os._exit under its built-in name
