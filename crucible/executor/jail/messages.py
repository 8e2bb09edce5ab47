"""Messages with descriptors between the processes of a lane."""

import _socket


def send_message(
    channel: "_socket.socket", message: bytes, descriptors: "tuple[int, ...]" = ()
) -> None:
    """Send a message with descriptors."""
    packed = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
    channel.sendmsg([message], ancillary)


def receive_message(channel: "_socket.socket", size: int) -> "tuple[bytes, list[int]]":
    """A message of at most so many bytes, empty at the end, and the descriptors with it."""
    message, ancillary, _, _ = channel.recvmsg(size, 256, _socket.MSG_CMSG_CLOEXEC)
    packed = b"".join(data for _, _, data in ancillary)
    return message, [
        int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)
    ]
