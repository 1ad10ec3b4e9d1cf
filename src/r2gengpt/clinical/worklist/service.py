"""The transactions of a worklist server (UPS-RS): search, retrieve, update, change of state. Tries once, keeps nothing.

Source: PS3.18, chapter 11. Errors name the server and the status, never what it sent.
"""

import json
import logging
from collections.abc import Sequence

import requests

from r2gengpt.clinical.archive.dicom_json import Node, element, is_json, json_of
from r2gengpt.clinical.archive.exchange import Doubtful
from r2gengpt.clinical.archive.loop import NotNow
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.tls import why_unreached
from r2gengpt.clinical.worklist.changes import TRANSACTION, state_change
from r2gengpt.clinical.worklist.workitem import (
    CODE_VALUE,
    FINAL,
    READINESS,
    READY,
    SCHEDULED,
    STATE,
    STATION,
    WorkItem,
    read_workitems,
)
from r2gengpt.errors import one_line

MOST_ANSWER, WHOLE = 2**24, 60.0
"""Bytes and seconds of an answer."""
CONNECT, SILENT = 10.0, 30.0
"""Seconds: to connect, between bytes."""
MOST_FOUND, MOST_PAGES = 100, 10
"""Items that a search asks for at once, and how many times."""
JSON = "application/dicom+json"
log = logging.getLogger("r2gengpt.clinical.worklist")


class Conflict(Exception):
    """The request does not fit the item as the server has it (400, 409): one line."""


class Gone(Exception):
    """The server does not have the item, or not any more (404, 410): one line."""


class Worklist:
    """A worklist server.

    Args:
        server: its address and our login.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = server.base_url

    def search(self, station: str) -> list[WorkItem]:
        """The items that are scheduled for a station and ready; a server may give others too.

        A full answer is followed by a search for what comes behind it, until nothing new comes.

        Raises:
            NotNow: no answer that can be used.
        """
        found: dict[str, WorkItem] = {}
        for page in range(MOST_PAGES):
            nodes, before = self._page(station, page * MOST_FOUND), len(found)
            found |= {one.uid: one for one in read_workitems(nodes)}
            if len(nodes) < MOST_FOUND or len(found) == before:
                break
        else:
            log.warning("%s: has more than %d work items, the others are not seen", self.url, MOST_PAGES * MOST_FOUND)
        return list(found.values())

    def _page(self, station: str, offset: int) -> list[object]:
        """At most `MOST_FOUND` items as they came, those behind the first `offset`."""
        query = {
            STATE: SCHEDULED, READINESS: READY, f"{STATION}.{CODE_VALUE}": station,
            "includefield": "all", "limit": str(MOST_FOUND), **({"offset": str(offset)} if offset else {}),
        }  # fmt: skip
        response = self._exchange("GET", "/workitems", query=query)
        if response.status_code == 204:
            return []
        if response.status_code not in (200, 206):
            raise NotNow(f"{self.url}: a search is answered with status {response.status_code}")
        return self._nodes(response)[:MOST_FOUND]

    def retrieve(self, uid: str) -> WorkItem:
        """An item.

        Raises:
            Gone: the server does not have it.
            NotNow: no answer that can be used.
        """
        response = self._exchange("GET", f"/workitems/{uid}")
        try:
            self._check(response)
        except Conflict as error:  # there is nothing that a question could be in conflict with
            raise NotNow(str(error)) from None
        found = [one for one in read_workitems(self._nodes(response)) if one.uid == uid]
        if not found:
            raise NotNow(f"{self.url}: answers with another work item")
        return found[0]

    def update(self, uid: str, transaction: str, change: Node) -> None:
        """Set attributes of an item that we have claimed.

        Raises:
            Conflict, Gone, NotNow: they are not set.
        """
        payload = {**change, TRANSACTION: element("UI", transaction)}
        self._check(self._exchange("POST", f"/workitems/{uid}?{transaction}", payload))

    def change_state(self, uid: str, transaction: str, state: str) -> None:
        """Claim, complete or cancel an item. It counts as done when the item, asked for, has the state.

        Raises:
            Conflict, Gone, NotNow: its state is not changed, or nobody knows.
        """
        self._check(self._exchange("PUT", f"/workitems/{uid}/state", state_change(state, transaction)))
        try:
            reached = self.retrieve(uid).state
        except Gone:
            if state in FINAL:  # a server need not keep what is finished
                return
            raise
        if reached != state:  # a login page comes with status 200 too
            raise NotNow(f"{self.url}: answers that the item is {state}, and has it as {one_line(reached)[:16]}")

    def _exchange(
        self, method: str, path: str, payload: Node | None = None, query: dict[str, str] | None = None
    ) -> requests.Response:
        headers = {"Accept": JSON, "Accept-Encoding": "identity"}
        data = None if payload is None else json.dumps([payload]).encode()
        if data is not None:
            headers["Content-Type"] = JSON
        try:
            with self.server.session_for(MOST_ANSWER, WHOLE) as session:
                return session.request(
                    method, f"{self.url}{path}", params=query, data=data, headers=headers, timeout=(CONNECT, SILENT)
                )
        except Doubtful as error:
            raise NotNow(f"{self.url}: {error}") from None
        except requests.exceptions.RequestException as error:
            raise NotNow(f"{self.url} cannot be reached ({why_unreached(error)})") from None

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        words = f"{self.url}: answers with status {status}"
        if status in (400, 409):
            raise Conflict(words)
        if status in (404, 410):
            raise Gone(words)
        raise NotNow(f"{words}: it wants another name and password" if status in (401, 403) else words)

    def _nodes(self, response: requests.Response) -> list[object]:
        found = json_of(response.content) if is_json(response.headers) else None
        if not isinstance(found, list | dict):
            raise NotNow(f"{self.url}: its answer is no list of work items")
        return found if isinstance(found, list) else [found]


def first_for(items: Sequence[WorkItem]) -> list[WorkItem]:
    """Items in the order in which they are claimed: urgent ones first, then those that may begin earliest."""
    return sorted(items, key=lambda one: (-one.priority, one.start, one.uid))
