"""Results to a peer by MLLP: the messages that lie in the spool, each until it is acknowledged. Makes no message.

A message is a file, sent byte for byte each time, so that its control id stays the same. It is removed when its peer
has acknowledged it (AA, CA), and put aside with the reason when the peer refuses it for good.
"""

import logging
import socket
import sqlite3
import ssl
import threading

from r2gengpt.clinical.archive.loop import SPOOL_WAIT, NotNow, Refused, Send, Waits
from r2gengpt.clinical.archive.spool import NoSpace, Spool
from r2gengpt.clinical.archive.tls import PeerTls, words_of
from r2gengpt.clinical.hl7.acknowledge import read_acknowledgement
from r2gengpt.clinical.hl7.er7 import NotAMessage, header_of
from r2gengpt.clinical.hl7.mllp import Frames, TooLong, Unframed, framed
from r2gengpt.errors import place_of

log = logging.getLogger("r2gengpt.clinical.hl7")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 30.0
"""To connect, handshake included; and for the acknowledgement, from the message's last byte."""
MOST_ANSWER = 2**16
"""Bytes of an acknowledgement."""
MOST_ANSWERS = 4
"""Frames that are looked at for the message's own acknowledgement."""


def mllp_send(host: str, port: int, tls: PeerTls | None = None) -> Send:
    """What sends messages to this peer, each over a connection of its own.

    Args:
        host: the peer's.
        port: the peer's.
        tls: how it is spoken to; None: in plain text.

    Raises (when it sends):
        Refused: the peer answers that it will never take this message.
        NotNow: it does not answer that it has it.
    """

    def send(message: bytes) -> None:
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS) as plain:
                if tls is None:
                    _exchange(plain, message)
                    return
                with tls.context.wrap_socket(plain, server_hostname=tls.name) as secured:
                    _exchange(secured, message)
        except ssl.SSLError as error:
            raise NotNow(f"TLS: {words_of(error)}") from None
        except TimeoutError:
            raise NotNow("no answer in time") from None
        except OSError as error:
            raise NotNow(error.strerror or "the connection ended") from None
        except (Unframed, TooLong) as error:
            raise NotNow(f"its answer cannot be used: {error}") from None

    return send


def _exchange(connection: socket.socket, message: bytes) -> None:
    """Send a message and read until its own acknowledgement.

    Raises:
        Refused, NotNow, OSError, Unframed, TooLong: see `mllp_send`.
    """
    connection.settimeout(ANSWER_SECONDS)
    connection.sendall(framed(message))
    frames = Frames(connection, MOST_ANSWER, ANSWER_SECONDS)
    for _ in range(MOST_ANSWERS):
        answer = frames.next(ANSWER_SECONDS)
        if answer is None:
            raise NotNow("the connection ended without an answer")
        found = read_acknowledgement(answer)
        if found is None or found.control_id != control_id_of(message):
            continue
        if found.is_taken:
            return
        raise Refused(found.words) if found.is_final else NotNow(found.words)
    raise NotNow("its answers are to other messages")


def control_id_of(message: bytes) -> str:
    """MSH-10; "" where the message has no header."""
    try:
        return header_of(message).raw(10)
    except NotAMessage:
        return ""


class MessageQueue:
    """The outgoing queue of messages, with waits of its own: it holds up no report, and no report it.

    Args:
        spool: has the messages.
        send: brings one to the peer.
    """

    def __init__(self, spool: Spool, send: Send) -> None:
        self.spool, self.send = spool, send
        self._waits = Waits(spool.clock)
        self._work_after = spool.clock()

    def run(self, stop: threading.Event, pause: float = 0.5) -> None:
        """Work until `stop` is set; the message that is being sent then is finished."""
        while not stop.is_set():
            if not self.step():
                stop.wait(pause)

    def step(self) -> bool:
        """Whether the peer has answered for a message."""
        if self.spool.clock() < self._work_after:
            return False
        try:
            return self._send_next()
        except (NoSpace, sqlite3.Error, OSError) as error:
            log.error("the spool cannot be used (%s): messages go again in %.0f s", place_of(error), SPOOL_WAIT)
            self._work_after = self.spool.clock() + SPOOL_WAIT
            return False

    def _send_next(self) -> bool:
        study = self._waits.choose(self.spool.messages())
        message = None if study is None else self.spool.read_message(study)
        if study is None or message is None:
            return False
        try:
            self.send(message)
        except Refused as error:
            log.warning("study %s: the peer refused its message: %s", study[:12], error)
            self.spool.set_message_aside(study, message, f"the peer refused it: {error}")
        except NotNow as error:
            return self._is_for_later(study, str(error))
        except Exception as error:  # of a library, from what a peer sent: the message was not answered for
            return self._is_for_later(study, place_of(error))
        else:
            self.spool.set_message_sent(study, message)
            log.info("study %s: message acknowledged", study[:12])
        self._waits.answered(study)
        return True

    def _is_for_later(self, study: str, why: str) -> bool:
        log.warning(
            "study %s: message not acknowledged (%s): again in %.0f s", study[:12], why, self._waits.failed(study)
        )
        return False
