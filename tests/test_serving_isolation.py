"""Sixteen clients of mixed roles at once, by keys and by tokens: nobody gets a word of another's study."""

import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from audit_parts import said_in
from dicom_files import ROOT, data_of, ramp
from dicom_files import film as dicom
from oidc_parts import AUDIENCE, LocalIssuer, local_issuer
from r2gengpt.auditlog.log import opened_log
from r2gengpt.auditlog.verify import verify
from r2gengpt.reporter import Reporter
from r2gengpt.serving.app import create_app
from r2gengpt.serving.keys import ROLES, add_key
from r2gengpt.serving.trail import Trail
from r2gengpt.settings import ServeConfig
from r2gengpt.verdicts.address import opened_store
from serving_parts import LONG, busy, data_url, generator_of, message, upload, wait_for

CLIENTS, ROUNDS = 16, 12
"""Clients, and how many studies each has in the drill."""
REPORTS, TICKET = "/v1/reports", "X-Ticket"


@dataclass
class Caller:
    """A client: its name, its role, what it sends to be let in, and what it got for its studies."""

    name: str
    role: str
    credential: str
    got: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential}"}


def study_of(number: int) -> bytes:
    """A DICOM film of a study and a patient of its own."""
    return data_of(
        dicom(
            (ramp() + number * 7) % 4096,
            StudyInstanceUID=f"{ROOT}1.{number}",
            SOPInstanceUID=f"{ROOT}3.{number}",
            PatientID=f"P-{number}",
            AccessionNumber=f"A-{number}",
        )
    )


def callers(directory: Path, issuer: LocalIssuer, draw: random.Random) -> list[Caller]:
    """Half of them have keys, half have tokens; the first two of each kind ask for reports."""
    found = []
    for number in range(CLIENTS):
        role, name = "report" if number < 4 else draw.choice(ROLES), f"client-{number // 2}"
        is_key = number % 2 == 0  # a key and a token have the same name
        credential = add_key(directory / "keys.json", name, [role]) if is_key else issuer.token([role], sub=name)
        found.append(Caller(name, role, credential))
    return found


def work(client: TestClient, caller: Caller, study: int) -> None:
    """One study: its draft, a verdict on it, a document, a chat."""
    data, headers = study_of(study), {**caller.headers, TICKET: f"ticket-of-all-{0:04}"}
    draft = client.post(REPORTS, files=upload(data), headers=headers)
    if draft.status_code != 200:
        caller.got.append((study, {"status": draft.status_code}))
        return
    words = {"receipt": draft.json()["receipt"], "verdict": "accept", "key": f"key-of-study-{study:08}"}
    text = {"report": draft.json()["findings"]}
    wanted = {**caller.headers, "Accept": "application/fhir+json"}
    chat: dict[str, Any] = {"model": "best", "messages": message(data)}
    chat["messages"][0]["content"][0]["image_url"]["url"] = data_url(data).replace("image/png", "application/dicom")
    caller.got.append(
        (
            study,
            {
                "status": 200,
                "draft": draft.json(),
                "verdict": client.post("/v1/verdicts", json=words, headers=caller.headers).json(),
                "document": client.post("/v1/documents", files=upload(data), data=text, headers=wanted).json(),
                "chat": client.post("/v1/chat/completions", json=chat, headers=caller.headers).json(),
            },
        )
    )


def in_threads(tasks: list[tuple[Any, ...]]) -> None:
    threads = [threading.Thread(target=work, args=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)


def sixteen_clients(served: Reporter, directory: Path, issuer: LocalIssuer, rounds: int, seed: int) -> None:
    draw = random.Random(seed)
    asking = callers(directory, issuer, draw)
    settings = ServeConfig(
        api_keys=str(directory / "keys.json"), oidc_issuer=issuer.url, oidc_audience=AUDIENCE, queue_size=4 * CLIENTS
    )
    store, generator = opened_store(str(directory / "verdicts.db")), generator_of(served, settings)
    trail = Trail(opened_log(str(directory / "log"), "serve"))
    with trail.audit.running():
        app = create_app(generator, settings, store, trail)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            for turn in range(rounds):
                tasks = [(client, caller, turn * CLIENTS + at) for at, caller in enumerate(asking)]
                draw.shuffle(tasks)
                in_threads(tasks)
        trail.close()
    assert generator.stop(LONG)
    for at, caller in enumerate(asking):
        assert [study for study, _ in caller.got] == [turn * CLIENTS + at for turn in range(rounds)]
        for study, got in caller.got:
            check(caller, study, got)
    kept = {one.facts.id: one for one in store.latest()}
    drafts = [got["draft"] for caller in asking for _, got in caller.got if got["status"] == 200]
    assert set(kept) == {draft["id"] for draft in drafts}
    assert all(kept[draft["id"]].given.text == draft["findings"] for draft in drafts)
    store.close()
    check_log(directory / "log", asking)


def check(caller: Caller, study: int, got: dict[str, Any]) -> None:
    """What a client got is of its own study, whole."""
    if caller.role == "read":
        assert got == {"status": 403}
        return
    assert got["status"] == 200
    own = f"{ROOT}3.{study}"
    assert got["draft"]["provenance"]["sop_instance_uids"] == [own]
    assert got["chat"]["provenance"]["sop_instance_uids"] == [own]
    assert got["chat"]["choices"][0]["message"]["content"].endswith(got["draft"]["findings"])
    assert got["verdict"]["draft"] == got["draft"]["id"]
    text = str(got["document"])
    assert f"{ROOT}1.{study}'" in text
    assert f"'P-{study}'" in text
    assert not [other for other in range(CLIENTS * ROUNDS) if other != study and f"'P-{other}'" in text]


def check_log(log: Path, asking: list[Caller]) -> None:
    """The audit log has each client with its own studies, and with no other."""
    verify(log)
    allowed: dict[tuple[str, bool], set[str]] = {}
    for at, caller in enumerate(asking):
        mine = allowed.setdefault((caller.name, at % 2 == 1), set())
        mine |= {f"{ROOT}1.{study}" for study, got in caller.got if got["status"] == 200}
    seen: dict[tuple[str, bool], set[str]] = {}
    for one in said_in(log):
        if one.event in ("DICOM Instances Accessed", "Export"):
            who = (one.user, 'AlternativeUserID="http://127.0.0.1:' in one.xml)
            seen.setdefault(who, set()).add(one.objects[0])
    assert seen == {who: studies for who, studies in allowed.items() if studies}


def test_sixteen_clients_of_mixed_roles_see_their_own_studies_alone(served: Reporter, tmp_path: Path) -> None:
    with local_issuer() as issuer:
        sixteen_clients(served, tmp_path, issuer, 1, 7)


@pytest.mark.drill
def test_sixteen_clients_of_mixed_roles_see_their_own_studies_alone_for_long(served: Reporter, tmp_path: Path) -> None:
    seed = int(os.environ.get("R2GENGPT_DRILL_SEED", "11"))
    with local_issuer() as issuer:
        sixteen_clients(served, tmp_path, issuer, ROUNDS, seed)


def test_a_ticket_is_its_callers_own(served: Reporter, tmp_path: Path) -> None:
    keys = {name: add_key(tmp_path / "keys.json", name, ["report"]) for name in ("one", "other")}
    settings = ServeConfig(api_keys=str(tmp_path / "keys.json"))
    generator, ticket = generator_of(served, settings), "a-ticket-that-was-guessed"
    with TestClient(create_app(generator, settings), base_url="http://127.0.0.1") as client:

        def place(name: str) -> Any:
            return client.get(f"/v1/queue/{ticket}", headers=bearer(name)).json()["place"]

        def bearer(name: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {keys[name]}"}

        with busy(generator) as go_on:
            headers = {**bearer("one"), TICKET: ticket}
            thread = threading.Thread(
                target=lambda: client.post(REPORTS, files=upload(study_of(1)), headers=headers), daemon=True
            )
            thread.start()
            wait_for(lambda: place("one") is not None)
            assert place("other") is None
            go_on.set()
            thread.join(LONG)
    assert generator.stop(LONG)
