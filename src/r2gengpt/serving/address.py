"""The server's address: a socket that has it, before anything else is loaded; who reaches it. Answers nothing."""

import ipaddress
import socket

from r2gengpt.errors import InputError

BACKLOG = 256


def bound(host: str, port: int, field: str = "host", port_field: str = "port") -> socket.socket:
    """A socket that has the address; nobody can connect yet.

    Args:
        host: name or number.
        port: 0 is a free one.
        field: the setting that gave `host`, for errors.
        port_field: the setting that gave `port`.

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
        raise InputError(f"`{field}` {host} `{port_field}` {port}: {error.strerror or error}") from None
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


def is_loopback(name: str) -> bool:
    """Whether a client's name for a server means the client's own machine: 127.0.0.0/8, ::1 however written, localhost.

    >>> [is_loopback(name) for name in ("127.9.9.9", "0:0::1", "::ffff:127.0.0.1", "localhost", "127.0.0.1.example")]
    [True, True, True, True, False]
    """
    name = name.lower().removesuffix(".")
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def listens_inside(host: str) -> bool:
    """Whether a server that listens on this address can be reached from its own machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # no such name: nothing listens
        return is_loopback(host)
    return all(is_loopback(str(address[0]).partition("%")[0]) for *_, address in found)
