"""The server's address: a socket that has it, before anything else is loaded. Answers nothing."""

import socket

from r2gengpt.errors import InputError

BACKLOG = 256


def bound(host: str, port: int, field: str = "host") -> socket.socket:
    """A socket that has the address; nobody can connect yet.

    Args:
        host: name or number.
        port: 0 is a free one.
        field: the setting that gave `host`, for errors.

    Raises:
        InputError: the address is not this machine's, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field=field, value=host) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise InputError(f"`{field}` {host} `port` {port}: {error.strerror or error}") from None
    return found


def opened(found: socket.socket) -> socket.socket:
    """The socket, which others can connect to from now on.

    Raises:
        InputError: another program has begun to listen there meanwhile.
    """
    try:
        found.listen(BACKLOG)
    except OSError as error:
        host, port = found.getsockname()[:2]
        found.close()
        raise InputError(f"`host` {host} `port` {port}: {error.strerror or error}") from None
    return found


def address_of(listening: socket.socket) -> str:
    """The socket's address as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
