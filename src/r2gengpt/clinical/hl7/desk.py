"""A message of orders to its answers: read, checked, kept, acknowledged. Knows no connection."""

import hashlib
import logging

from r2gengpt.clinical.archive.bounded import Seldom
from r2gengpt.clinical.hl7.acknowledge import answers
from r2gengpt.clinical.hl7.book import OrderBook
from r2gengpt.clinical.hl7.er7 import INTERNAL, Header, MessageError, header_of, read_message
from r2gengpt.clinical.hl7.orders import check_header, orders_of
from r2gengpt.errors import place_of


class Desk:
    """Takes orders into a book.

    Args:
        book: keeps them.
        most_bytes: of a message.
    """

    def __init__(self, book: OrderBook, most_bytes: int) -> None:
        self.book, self.most_bytes = book, most_bytes
        self._refused, self._fault = Seldom("an order was refused: "), Seldom("an order could not be kept: ")
        self._kept, self._again = (
            Seldom(words, level=logging.INFO)
            for words in ("orders: ", "a message that was taken before came again: it has no effect")
        )

    def answer(self, data: bytes) -> list[bytes]:
        """The answers to a message; what it says is on the disk where they say that it is taken.

        Raises:
            NotAMessage: it has no header.
        """
        header = header_of(data)
        try:
            self._take(data, header)
        except MessageError as error:
            self._refused(str(error))
            return answers(header, error)
        except Exception as error:  # a fault of ours, or a full disk: the sender is told to come again
            self._fault(place_of(error))
            words = "cannot be kept now: send it again"
            return answers(header, MessageError("MSH", words, INTERNAL))
        return answers(header, None)

    def refuse_long(self, data: bytes) -> list[bytes]:
        """The answers to the beginning of a message that is too long.

        Raises:
            NotAMessage: it has no header.
        """
        header = header_of(data)
        error = MessageError("MSH", f"the message has more than {self.most_bytes} bytes", INTERNAL)
        self._refused(str(error))
        return answers(header, error)

    def _take(self, data: bytes, header: Header) -> None:
        """Keep a message's orders.

        Raises:
            MessageError: it is not taken.
            sqlite3.Error: it cannot be kept.
        """
        check_header(header)
        orders = orders_of(read_message(data, header))
        if not self.book.take(hashlib.sha256(data).hexdigest(), orders):
            self._again()
            return
        for order in orders:
            what = "is withdrawn" if order.is_withdrawn else f"is kept (priority {order.priority})"
            self._kept(f"{order.accession[:12] or 'that of a placer'} {what}")
