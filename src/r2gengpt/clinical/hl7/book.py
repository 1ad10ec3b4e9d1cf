"""The orders that came in, in SQLite, by the hash of their accession number. Knows no message and no film's file.

Each message is one transaction, on the disk when it is answered. A message whose bytes were taken before has no effect:
its sender has missed the answer. Texts of an order are a patient's: the file is its owner's only.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from r2gengpt.clinical.archive import private
from r2gengpt.clinical.archive.bounded import Seldom
from r2gengpt.clinical.archive.ledger import accession_key
from r2gengpt.clinical.documents.draft import patient_of
from r2gengpt.clinical.hl7.er7 import KEY, MessageError
from r2gengpt.clinical.hl7.orders import NO_ORDER, Order, may_be_one, patient_keys
from r2gengpt.errors import place_of
from r2gengpt.films.dicom.header import DicomHeader

log = logging.getLogger("r2gengpt.clinical.hl7")
NAME = "orders.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    key TEXT PRIMARY KEY, placer TEXT NOT NULL, patients TEXT NOT NULL, indication TEXT NOT NULL,
    priority INTEGER NOT NULL, at REAL NOT NULL,
    technique TEXT NOT NULL DEFAULT '', age REAL, sex TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS orders_of_placer ON orders (placer) WHERE placer != '';
CREATE INDEX IF NOT EXISTS urgent_orders ON orders (priority) WHERE priority > 0;
CREATE INDEX IF NOT EXISTS orders_by_age ON orders (at);
CREATE TABLE IF NOT EXISTS taken (digest TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS taken_by_age ON taken (at);
"""
LATER = {"technique": "TEXT NOT NULL DEFAULT ''", "age": "REAL", "sex": "TEXT NOT NULL DEFAULT ''"}
"""Columns of orders that a file of an older version has not."""
MOST_TAKEN = 10_000
"""Messages whose digests are kept."""


class OrderBook:
    """The orders of a listener; used by several threads.

    Args:
        path: of the file, in a directory that one process has for itself. A damaged one is put away.
        most: orders; then the oldest go.
        keep_seconds: for which an order is kept after it came.
        clock: seconds since 1970, as orders outlive the process.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """

    def __init__(self, path: Path, most: int, keep_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.path, self.most, self.keep_seconds, self.clock = path, most, keep_seconds, clock
        self._lock = threading.RLock()
        self._unread = Seldom("the orders cannot be read, and no study goes first: ")
        try:
            self._base = self._opened()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            log.error("the orders are damaged (%s): they were put away as %s.damaged", error, path.name)
            path.replace(path.with_name(f"{path.name}.damaged"))
            for rest in ("-wal", "-shm"):
                path.with_name(path.name + rest).unlink(missing_ok=True)
            self._base = self._opened()

    def _opened(self) -> sqlite3.Connection:
        private.touch(self.path)  # SQLite gives its other files the same mode
        base = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
        try:
            if base.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise sqlite3.DatabaseError("its pages do not fit together")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=FULL")  # an order is answered for only when it is on the disk
            base.execute("PRAGMA secure_delete=ON")  # what is withdrawn or too old is overwritten
            base.executescript(SCHEMA)
            there = {name for _, name, *_ in base.execute("PRAGMA table_info(orders)").fetchall()}
            for name in LATER.keys() - there:
                base.execute(f"ALTER TABLE orders ADD COLUMN {name} {LATER[name]}")
        except BaseException:  # whatever it was, it is raised again
            base.close()
            raise
        return base

    def close(self) -> None:
        """Close the data base."""
        with self._lock:
            self._base.close()

    def take(self, digest: str, orders: Sequence[Order]) -> bool:
        """All orders of a message, or none; False, and nothing done, where this very message was taken before.

        Raises:
            MessageError: an order is replaced or withdrawn for another patient than it was kept for.
            sqlite3.Error: it is not kept: the disk is full, for one.
        """
        now = self.clock()
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                is_new = self._base.execute("SELECT 1 FROM taken WHERE digest = ?", (digest,)).fetchone() is None
                if is_new:
                    self._base.execute("INSERT INTO taken VALUES (?, ?)", (digest, now))
                    for order in orders:
                        self._take(order, now)
                    self._forget_old(now)
                self._base.execute("COMMIT")
            except BaseException:  # whatever it was, it is raised again
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
        return is_new

    def _take(self, order: Order, now: float) -> None:
        which, values = "key = ?", [order.accession]
        if order.is_withdrawn:
            which, values = f"{which} OR (placer != '' AND placer = ?)", [*values, order.placer]
        query = f"SELECT patients FROM orders WHERE at >= ? AND ({which})"
        kept = self._base.execute(query, (now - self.keep_seconds, *values)).fetchall()
        known = [frozenset(patients.split()) for (patients,) in kept if patients] if order.patients else []
        if not all(may_be_one(order.patients, patients) for patients in known):
            done = "withdrawn" if order.is_withdrawn else "replaced"
            raise MessageError("PID-3", f"the order that is {done} is of another patient", KEY)
        if order.is_withdrawn:
            self._base.execute(f"DELETE FROM orders WHERE {which}", values)
            return
        patients = " ".join(sorted(order.patients))
        row = (order.accession, order.placer, patients, order.indication, order.priority, now)
        columns = "key, placer, patients, indication, priority, at, technique, age, sex"
        query = f"INSERT OR REPLACE INTO orders ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._base.execute(query, (*row, order.technique, order.age, order.sex))

    def _forget_old(self, now: float) -> None:
        """What came while the clock was ahead came now: it is neither kept longer, nor instead of what comes."""
        self._base.execute("DELETE FROM orders WHERE at < ?", (now - self.keep_seconds,))
        for table, most in (("orders", self.most), ("taken", MOST_TAKEN)):
            self._base.execute(f"UPDATE {table} SET at = ? WHERE at > ?", (now, now))
            (count,) = self._base.execute(f"SELECT count(*) FROM {table}").fetchone()
            if count > most:
                query = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY at, rowid LIMIT ?)"
                self._base.execute(query, (count - most,))

    def order_of(self, accession: str) -> Order | None:
        """The order of an accession number's key, unless it is too old."""
        columns = "key, placer, patients, indication, priority, technique, age, sex"
        query = f"SELECT {columns} FROM orders WHERE key = ? AND at >= ?"
        with self._lock:
            row = self._base.execute(query, (accession, self.clock() - self.keep_seconds)).fetchone()
        if row is None:
            return None
        key, placer, patients, indication, priority, technique, age, sex = row
        found = frozenset(patients.split())
        return Order(key, placer, found, indication, priority, technique=technique, age=age, sex=sex)

    def urgent(self) -> Mapping[str, int]:
        """The priority of each order that is not routine, by its key; none where the data base fails."""
        query = "SELECT key, priority FROM orders WHERE priority > 0 AND at >= ?"
        try:
            with self._lock:
                return dict(self._base.execute(query, (self.clock() - self.keep_seconds,)).fetchall())
        except sqlite3.Error as error:  # studies are reported all the same
            self._unread(place_of(error))
            return {}

    def order_for(self, headers: Sequence[DicomHeader]) -> Order:
        """The order of these films of a study; `NO_ORDER` where there is none, or it is not known to be theirs.

        Its patient must be that of the films, unless these name none.

        A study never waits for an order, and a fault of the data base holds none up.
        """
        header = patient_of(headers)
        accession = accession_key(header.accession)
        try:
            found = self.order_of(accession) if accession else None
        except sqlite3.Error as error:
            log.error("the orders cannot be read (%s): a study is reported without its order", place_of(error))
            return NO_ORDER
        if found is None:
            return NO_ORDER
        patient = patient_keys(header.patient_id, header.issuer)
        if not found.patients or (header.patient_id and not may_be_one(patient, found.patients)):
            whom = "another patient than the films" if found.patients else "no patient"
            log.warning("order %s names %s: it is not used", accession[:12], whom)
            return NO_ORDER
        return found
