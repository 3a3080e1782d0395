# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses to listen on, and clear words when one cannot be had."""

from __future__ import annotations

import errno
import socket

from gandt.domain.errors import GandtError, InvalidInput, PermissionDenied, WrongState


def authority(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listener(service: str, key: str, host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        service: short name of the service, for the error.
        key: the setting that chose the port, for the error.
        host: address or name of this machine.
        port: 0 takes a free one.
    Raises:
        WrongState: the port is taken.
        PermissionDenied: the port is not for ordinary users.
        InvalidInput: the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise cannot_listen(service, key, host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # now, so that a second server on the port fails here and not later
    except OSError as error:
        listener.close()
        raise cannot_listen(service, key, host, port, error) from error
    listener.setblocking(False)
    return listener


def cannot_listen(service: str, key: str, host: str, port: int, error: OSError) -> GandtError:
    """The error for an address that was refused, by cause."""
    variable = f"GANDT_{service.upper()}__{key.upper()}"
    choose = f"choose another port with {'--port N or ' if key == 'port' else ''}{variable}"
    text = f"{service} cannot listen on {authority(host, port)}"
    if error.errno == errno.EADDRINUSE:
        return WrongState(
            f"{text}: the port is in use",
            kind="port",
            id=str(port),
            state="in use",
            reason="PORT_IN_USE",
            fix=f"stop the other process, or {choose}",
        )
    if error.errno == errno.EACCES:
        return PermissionDenied(f"{text}: only root may use that port", reason="PORT_NOT_ALLOWED", fix=choose)
    return InvalidInput(
        f"{text}: {host} is not an address of this machine",
        field=f"{service}.host",
        reason="HOST_NOT_OURS",
        fix=f"set GANDT_{service.upper()}__HOST to 127.0.0.1, or to 0.0.0.0 for all addresses",
    )
