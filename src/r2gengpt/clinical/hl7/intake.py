"""A message of orders to its answers: read, checked, kept, acknowledged. Knows no connection."""

import hashlib
import logging
from collections.abc import Sequence

from r2gengpt.auditlog.log import AuditFault, AuditLog
from r2gengpt.clinical.archive.bounded import Seldom
from r2gengpt.clinical.hl7.acknowledge import answers
from r2gengpt.clinical.hl7.audited import order_message, patient_in
from r2gengpt.clinical.hl7.book import OrderBook
from r2gengpt.clinical.hl7.er7 import INTERNAL, Header, MessageError, header_of, read_message
from r2gengpt.clinical.hl7.orders import Order, check_header, orders_of
from r2gengpt.errors import place_of

NOT_NOW = MessageError("MSH", "cannot be kept now: send it again", INTERNAL)


class OrderIntake:
    """Takes orders into a book.

    Args:
        book: keeps them.
        most_bytes: of a message.
        audit: records messages; None where nothing is recorded.
    """

    def __init__(self, book: OrderBook, most_bytes: int, audit: AuditLog | None = None) -> None:
        self.book, self.most_bytes, self.audit = book, most_bytes, audit
        self._refused, self._fault = Seldom("an order was refused: "), Seldom("an order could not be kept: ")
        self._kept, self._again = (
            Seldom(words, level=logging.INFO)
            for words in ("orders: ", "a message that was taken before came again: it has no effect")
        )

    def answer(self, data: bytes, address: str = "") -> list[bytes]:
        """The answers to a message from an address; what it says is on the disk where they say that it is taken.

        Raises:
            NotAMessage: it has no header.
        """
        header = header_of(data)
        try:
            if self.audit is not None:
                self.audit.check()
            self._take(data, header, address)
        except MessageError as error:
            self._refused(str(error))
            return answers(header, self._recorded(header, address, "", (), error))
        except Exception as error:  # a fault of ours, or a full disk: the sender is told to come again
            self._fault(str(error) if isinstance(error, AuditFault) else place_of(error))
            return answers(header, NOT_NOW)
        return answers(header, None)

    def _recorded(
        self, header: Header, address: str, patient: str, orders: Sequence[Order], error: MessageError | None
    ) -> MessageError | None:
        """What a message is answered with: its error, or that it cannot be recorded."""
        if self.audit is None:
            return error
        words = "" if error is None else str(error)
        try:
            self.audit.append(order_message(self.audit.process, header, address, patient, orders, words))
        except AuditFault as fault:
            self._fault(str(fault))
            return NOT_NOW
        return error

    def refuse_long(self, data: bytes, address: str = "") -> list[bytes]:
        """The answers to the beginning of a message that is too long, from an address.

        Raises:
            NotAMessage: it has no header.
        """
        header = header_of(data)
        error = MessageError("MSH", f"the message has more than {self.most_bytes} bytes", INTERNAL)
        self._refused(str(error))
        return answers(header, self._recorded(header, address, "", (), error))

    def _take(self, data: bytes, header: Header, address: str) -> None:
        """Keep a message's orders.

        Raises:
            MessageError: it is not taken.
            sqlite3.Error: it cannot be kept.
            AuditFault: it cannot be recorded.
        """
        check_header(header)
        message = read_message(data, header)
        orders = orders_of(message)
        is_new = self.book.take(hashlib.sha256(data).hexdigest(), orders)
        if self.audit is not None:
            patient = patient_in(message.segments)
            self.audit.append(order_message(self.audit.process, header, address, patient, orders, ""))
        if not is_new:
            self._again()
            return
        for order in orders:
            what = "is withdrawn" if order.is_withdrawn else f"is kept (priority {order.priority})"
            self._kept(f"{order.accession[:12] or 'that of a placer'} {what}")
