"""Messages of orders: read, refused with their place, kept, replaced, withdrawn; how each is answered."""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from dicom_files import film
from mllp_parts import book_in, code_of, imaging_order, intake_in, msh, order, segments_of
from r2gengpt.clinical.archive.ledger import accession_key
from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.hl7 import hl7_message
from r2gengpt.clinical.hl7.er7 import NotAMessage, Separators, header_of, read_message
from r2gengpt.clinical.hl7.orders import NO_ORDER, ROUTINE, SOON, STAT, Order, orders_of, patient_keys
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.dicom.header import header_of as header_of_film
from r2gengpt.text.context import Context

PID, JANE = "PID|1||P-1", patient_keys("P-1")
PLACER = "2024-000547123401^RADIOLOGY^1.2.840.114350.1.13.145.2.7.2.798268^ISO"
"""A number of a placer as an EI has it: with whose it is, and what names them."""


def films_of(accession: str = "A-1", patient: str = "P-1", issuer: str | None = None) -> list[DicomHeader]:
    """The header of one film."""
    return [header_of_film(film(AccessionNumber=accession, PatientID=patient, IssuerOfPatientID=issuer), "film")]


def read(data: bytes) -> Any:
    (found,) = orders_of(read_message(data, header_of(data)))
    return found


def test_an_order_is_matched_by_its_accession_number(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        assert [code_of(one) for one in intake.answer(order(priority="S", reason="Fever & cough"))] == ["AA 1"]
        found = intake.book.order_for(films_of(" A-1 "))
        assert (found.indication, found.priority, found.placer) == ("Fever & cough", STAT, "PL-1^RIS")
        assert intake.book.order_for(films_of("A-2")) == NO_ORDER
        assert intake.book.order_for(films_of("")) == NO_ORDER


def test_an_imaging_order_is_matched_by_ipc(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        (answer,) = intake.answer(imaging_order(reason="Rule out \\T\\ pneumonia\\.br\\\u00fc"))
        assert code_of(answer) == "AA 1"
        assert segments_of(answer)["MSH"][17] == "UNICODE UTF-8"
        assert intake.book.order_for(films_of()).indication == "Rule out & pneumonia \u00fc"


def test_an_order_of_another_patient_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order(patient="P-9~P-8"))
        assert intake.book.order_for(films_of(patient="P-1")) == NO_ORDER
        assert "another patient" in caplog.text
        assert intake.book.order_for(films_of(patient="P-8")).indication == "Cough"
        assert intake.book.order_for(films_of(patient="")).indication == "Cough"


@pytest.mark.parametrize(
    ("identifier", "issuer", "is_used"),
    [
        ("P-1^^^HOSPITAL", None, True), ("P-1^^^HOSPITAL", "Hospital ", True), ("P-1^^^HOSPITAL", "CLINIC", False),
        ("P-1", "CLINIC", True), ("P-1^^^H&1.2.3&ISO", "1.2.3", True), ("P-1^^^H&1.2.3&ISO", "h", True),
        ("P-1^^^H&1.2.3&ISO", "H&1.2.3&ISO", True), ("P-1^^^H&1.2.3&ISO", "ISO", False),
        ("P-9^^^CLINIC~P-1^^^HOSPITAL", "CLINIC", False), ("P-1^^^CLINIC~P-1^^^HOSPITAL", "CLINIC", True),
    ],
)  # fmt: skip
def test_the_authority_of_an_orders_patient_is_compared_with_the_films_issuer(
    identifier: str, issuer: str | None, is_used: bool, tmp_path: Path
) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(f"{msh()}\rPID|1||{identifier}\rORC|NW|PL-1\rOBR|1||A-1".encode())
        assert (intake.book.order_for(films_of(issuer=issuer)) != NO_ORDER) == is_used


@pytest.mark.parametrize("pid", ["", "PID|1\r", 'PID|1||""\r', "PID|1||^^^HOSPITAL\r"])
@pytest.mark.parametrize("action", ["NW", "XO"])
def test_an_order_that_names_no_patient_is_not_taken(action: str, pid: str, tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        answer = segments_of(intake.answer(f"{msh()}\r{pid}ORC|{action}|PL-1\rOBR|1||A-1".encode())[0])
        assert answer["MSA"][1:] == ["AE", "1", "PID-3: is missing: the order names no patient"]
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_a_kept_order_that_names_no_patient_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with book_in(tmp_path) as book:
        book.take("1", [Order(accession_key("A-1"), indication="Cough")])
        assert book.order_for(films_of()) == book.order_for(films_of(patient="")) == NO_ORDER
    assert "names no patient: it is not used" in caplog.text


@pytest.mark.parametrize("identifier", ["P-9^^^HOSPITAL", "P-1^^^CLINIC"])
@pytest.mark.parametrize("tail", ["ORC|CA|PL-1^RIS", "ORC|DC|PL-7\rOBR|1||A-1"])
def test_a_cancellation_for_another_patient_is_refused_and_withdraws_nothing(
    tail: str, identifier: str, tmp_path: Path
) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order())
        data = f"{msh('2', version='2.5')}\rPID|1||{identifier}\r{tail}".encode()
        for _ in range(2):  # it was not taken, and is read again
            answer = segments_of(intake.answer(data)[0])
            assert (answer["MSA"][1], answer["ERR"][2], answer["ERR"][3][:3]) == ("AE", "PID^1^3", "204")
            assert intake.book.order_for(films_of()).indication == "Cough"
        intake.answer(data.replace(identifier.encode(), b"P-1"))
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_an_order_that_is_too_old_gives_way_to_another_patients(tmp_path: Path) -> None:
    now, key = [5000.0], accession_key("A-1")
    with book_in(tmp_path, keep=100.0, clock=lambda: now[0]) as book:
        book.take("1", [Order(key, patients=JANE, indication="Cough")])
        now[0] += 101
        book.take("2", [Order(key, patients=patient_keys("P-9"), indication="Fall")])
        found = book.order_of(key)
        assert found is not None
        assert found.indication == "Fall"


@pytest.mark.parametrize("action", ["NW", "XO"])
def test_an_order_for_another_patient_replaces_none(action: str, tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order())
        head, tail = msh("2", version="2.5"), f"ORC|{action}|PL-1^RIS\rOBR|1||A-1||||||||||Fall"
        answer = segments_of(intake.answer(f"{head}\rPID|1||P-9\r{tail}".encode())[0])
        assert (answer["MSA"][1], answer["ERR"][2], answer["ERR"][3][:3]) == ("AE", "PID^1^3", "204")
        assert intake.book.order_for(films_of()).indication == "Cough"
        assert intake.book.order_for(films_of(patient="P-9")) == NO_ORDER
        intake.answer(f"{head}\rPID|1||P-1\r{tail}".encode())
        assert intake.book.order_for(films_of()).indication == "Fall"


@pytest.mark.parametrize(
    ("segment", "number", "component", "value", "expected"),
    [
        ("ORC", 7, 6, "S", STAT), ("ORC", 7, 6, "A", SOON), ("ORC", 7, 6, "R", ROUTINE), ("OBR", 27, 6, "STAT", STAT),
        ("OBR", 5, 1, "S", STAT), ("OBR", 5, 1, "ASAP", SOON), ("OBR", 5, 1, "TM30", SOON),
        ("OBR", 5, 1, "ZZ", ROUTINE),
    ],
)  # fmt: skip
def test_the_priority_is_read_where_versions_have_it(
    segment: str, number: int, component: int, value: str, expected: int
) -> None:
    fields = {"ORC": ["ORC", "NW", "1"], "OBR": ["OBR", "1", "", "A-1"]}
    fields[segment] += [""] * (number + 1 - len(fields[segment]))
    fields[segment][number] = "^" * (component - 1) + value
    lines = [msh(), PID, *("|".join(one) for one in fields.values())]
    assert read("\r".join(lines).encode()).priority == expected


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("OBR|1||F-1^AI|||||||||||||||A-1", "A-1"),
        ("OBR|1||F-1^AI", "F-1"),
        ("OBR|1|", "O-1"),
        ("OBR|1||F-1|||||||||||||||A-1\rIPC|I-1^RIS", "I-1"),
    ],
)
def test_the_accession_number_is_read_where_senders_put_it(tail: str, expected: str) -> None:
    assert read(f"{msh()}\r{PID}\rORC|NW|P|O-1\r{tail}".encode()).accession == accession_key(expected)


def test_reasons_information_and_diagnoses_make_the_indication_once_each() -> None:
    tail = "OBR|1||A-1||||||||||Smoker|||||||||||||||||" + "|R1^Cough~R2^Fever~^Cough"
    found = read(f"{msh()}\r{PID}\rORC|NW\r{tail}\rDG1|1||J18^Pneumonia^I10\rDG1|2|||Asthma".encode())
    assert found.indication == "Cough; Fever; Smoker; Pneumonia; Asthma"


@pytest.mark.parametrize("field", [13, 31])
@pytest.mark.parametrize(
    ("value", "words"),
    [("Smoker", "Smoker"), ("F17^Smoker^I10", "Smoker"), ("^Smoker", "Smoker"), ("F17^^I10", "F17"),
     ("Smoker~Fever", "Smoker; Fever"), ("F17^Smoker^I10~^Fever", "Smoker; Fever"), ("a \\S\\ b", "a ^ b")],
)  # fmt: skip
def test_reasons_and_information_are_read_as_texts_and_as_codes(field: int, value: str, words: str) -> None:
    request = f"OBR|1||A-1{'|' * (field - 3)}{value}"
    assert read(f"{msh(version='2.8')}\r{PID}\rORC|NW\r{request}".encode()).indication == words


def test_a_long_indication_is_cut_at_a_word() -> None:
    found = read(order(reason="word " * 500))
    assert 990 < len(found.indication) <= 1000
    assert found.indication.endswith("word")


def test_an_update_replaces_and_a_cancellation_withdraws(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order())
        assert code_of(intake.answer(order(action="XO", control="2", reason="Fever", priority="S"))[0]) == "AA 2"
        assert intake.book.order_for(films_of()).indication == "Fever"
        assert dict(intake.book.urgent()) == {accession_key("A-1"): STAT}
        for number, action in enumerate(("CA", "DC")):
            assert code_of(intake.answer(order(action=action, control=f"c{number}"))[0]) == f"AA c{number}"
            assert intake.book.order_for(films_of()) == NO_ORDER
            assert intake.book.urgent() == {}
            intake.answer(order(control=f"n{number}", priority="S"))
            assert intake.book.order_for(films_of()).indication == "Cough"


@pytest.mark.parametrize("components", ["PL-1", PLACER, "9" * 427])
def test_the_placers_number_is_kept_whole(components: str, tmp_path: Path) -> None:
    data = order().replace(b"|PL-1^RIS|", f"|{components}|".encode())
    with intake_in(tmp_path) as intake:
        assert code_of(intake.answer(data)[0]) == "AA 1"
        found = intake.book.order_for(films_of()).placer
    draft = draft_of("Clear.", [films_of()[0]], "m", "ab", datetime.now().astimezone(), placer=found)
    assert segments_of(hl7_message(draft))["OBR"][2] == components


def test_a_cancellation_by_the_placers_number_alone_withdraws(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order())
        assert code_of(intake.answer(f"{msh('2')}\rORC|CA|PL-2^RIS\r".encode())[0]) == "AA 2"
        assert intake.book.order_for(films_of()).indication == "Cough"
        intake.answer(f"{msh('3')}\rORC|CA|PL-1^RIS\r".encode())
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_a_message_that_comes_again_is_acknowledged_and_has_no_effect(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        first = order()
        intake.answer(first)
        intake.answer(order(action="CA", control="2"))
        assert code_of(intake.answer(first)[0]) == "AA 1"
        assert intake.book.order_for(films_of()) == NO_ORDER, "its sender had missed the answer, and cancelled since"


def test_of_a_message_with_a_wrong_order_none_is_kept(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        data = order() + b"ORC|NW|PL-2\rOBR|1\r"
        answer = segments_of(intake.answer(data)[0])
        assert answer["MSA"][1] == "AE"
        assert answer["MSA"][3].startswith("OBR-18: no accession number")
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_progress_of_an_order_is_acknowledged_and_changes_nothing(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        intake.answer(order())
        assert code_of(intake.answer(order(action="SC", control="2", reason="x"))[0]) == "AA 2"
        assert intake.book.order_for(films_of()).indication == "Cough"


WRONG = {
    "a result": (order(kind="ORU^R01"), "AR", "MSH^1^9", "200"),
    "an unknown type": (order(kind="ZZZ^Z01"), "AR", "MSH^1^9", "200"),
    "another event": (order(kind="OMI^O01"), "AR", "MSH^1^9", "201"),
    "version 3": (order(version="3.0"), "AR", "MSH^1^12", "203"),
    "no version": (order(version=""), "AR", "MSH^1^12", "203"),
    "no control id": (order(control=""), "AE", "MSH^1^10", "101"),
    "an unknown character set": (order(charset="ISO IR87"), "AE", "MSH^1^18", "103"),
    "bytes that are no ASCII": (order(charset="ASCII", reason="\u00fc"), "AE", "MSH^1^18", "103"),
    "bytes that are no UTF-8": (order(charset="UNICODE UTF-8") + b"NTE|\xff\r", "AE", "MSH^1^18", "103"),
    "no order": (msh().encode() + b"\rPID|1\r", "AE", "ORC^1", "100"),
    "no request": (msh().encode() + b"\rORC|NW|1\r", "AE", "OBR^1", "100"),
    "a request without an order": (msh().encode() + b"\rOBR|1\r", "AE", "ORC^1", "100"),
    "two requests": (order() + b"OBR|2\r", "AE", "OBR^2", "100"),
    "two patients": (order() + b"PID|1\r", "AE", "PID^2", "100"),
    "two patients at once": (msh().encode() + b"\rPID|1\rPID|1\rORC|NW|1\r", "AE", "PID^2", "100"),
    "no control": (order(action=""), "AE", "ORC^1^1", "101"),
    "an unknown control": (order(action="QQ"), "AE", "ORC^1^1", "103"),
    "a long accession number": (order(accession="9" * 65), "AE", "OBR^1^18", "102"),
    "a long one in IPC": (imaging_order("9" * 65), "AE", "IPC^1^1", "102"),
    "a long one in ORC": (f"{msh()}\r{PID}\rORC|NW|P|{'9' * 65}\rOBR|1\r".encode(), "AE", "ORC^1^3", "102"),
    "a long number of the placer": (order(placer="9" * 424), "AE", "ORC^1^2", "102"),
    "a long one in OBR": (f"{msh()}\r{PID}\rORC|NW\rOBR|1|{'9' * 428}|A\r".encode(), "AE", "OBR^1^2", "102"),
    "a segment without a name": (order() + b"x|1\r", "AE", "MSH^1", "100"),
    "many segments": (order() + b"NTE|1\r" * 1000, "AE", "MSH^1", "100"),
    "many fields": (order() + b"NTE" + b"|" * 300 + b"\r", "AE", "NTE^1", "102"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_by_segment_and_field(name: str, tmp_path: Path) -> None:
    data, code, place, number = WRONG[name]
    data = data.replace(b"|P|2.3.1|", b"|P|2.5.1|")
    with intake_in(tmp_path) as intake:
        (answer,) = intake.answer(data)
        found = segments_of(answer)
        assert (found["MSA"][1], found["ERR"][2], found["ERR"][3].split("^")[0]) == (code, place, number)
        assert found["ERR"][8].startswith(place.split("^")[0])
        assert intake.book.urgent() == {}
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_before_version_2_5_the_error_stands_in_the_first_field(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        (answer,) = intake.answer(order(action="QQ"))
        assert segments_of(answer)["ERR"][1] == "ORC^1^1^103&Table value not found&HL70357"


def test_no_value_of_a_message_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with intake_in(tmp_path) as intake:
        intake.answer(order("ACC-77", patient="PAT-77", reason="Secret-77", placer="PL-77"))
        for data, *_ in WRONG.values():
            intake.answer(data)
        intake.book.order_for(films_of("ACC-77"))
    assert "order" in caplog.text
    assert not [word for word in ("77", "DOE", "JANE", "1970", "Cough", "QQ") if word in caplog.text.replace("0x", "")]


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ("|", ["AA"], ["AE"]), ("AL|AL", ["CA", "AA"], ["CE", "AE"]), ("AL|NE", ["CA"], ["CE"]),
        ("AL|", ["CA"], ["CE"]), ("NE|AL", ["AA"], ["AE"]), ("NE|NE", [], []), ("ER|ER", [], ["CE", "AE"]),
        ("SU|SU", ["CA", "AA"], []), ("al|ne", ["CA"], ["CE"]),
    ],
)  # fmt: skip
def test_the_answers_are_those_that_were_asked_for(asked: str, good: list[str], bad: list[str], tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        assert [code_of(one)[:2] for one in intake.answer(order(more=asked))] == good
        assert [code_of(one)[:2] for one in intake.answer(order(more=asked, action="QQ"))] == bad
        rejected = [word.replace("E", "R") for word in bad]
        assert [code_of(one)[:2] for one in intake.answer(order(more=asked, kind="ADT^A01"))] == rejected


@pytest.mark.parametrize("data", [order(), imaging_order(), order(action="QQ"), order(version="2.5.1", kind="ADT^A01")])
def test_an_answer_is_a_message_that_another_reader_parses(data: bytes, tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        (answer,) = intake.answer(data)
    parsed = parse_message(answer.decode(), validation_level=VALIDATION_LEVEL.TOLERANT)
    assert parsed.msh.msh_9.value.startswith(("ACK^O", "ACK^A"))
    assert parsed.msh.msh_5.value == "RIS"
    assert parsed.msh.msh_12.value == data.split(b"|")[11].decode()
    assert parsed.msa.msa_2.value == "1"


def test_an_answer_is_written_with_the_separators_of_its_message(tmp_path: Path) -> None:
    data = order(reason="a+b").translate(bytes.maketrans(b"|^~\\&", b"!@+?%"))
    with intake_in(tmp_path) as intake:
        (answer,) = intake.answer(data)
        assert answer.startswith(b"MSH!@+?%!r2gengpt!!RIS!HOSPITAL!")
        assert b"\rMSA!AA!1\r" in answer
        assert intake.book.order_for(films_of()).placer == "PL-1^RIS"


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("ASCII", "ascii"), ("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("", "utf-8"),
     ("", "latin-1"), ("UTF-8", "utf-8"), ("utf8", "utf-8"), ("ISO-8859-1", "latin-1"), ("ISO_8859-15", "iso8859-15")],
)  # fmt: skip
def test_the_character_set_of_msh_18_is_honoured(charset: str, encoding: str) -> None:
    word = "D\u00fcsseldorf" if encoding != "ascii" else "Dusseldorf"
    data = order(charset=charset, reason=word).decode().encode(encoding)
    assert read(data).indication == word


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"), ("\\X4142\\", "AB"), ("\\XC3BC\\", "\u00fc"),
        ("\\XFC\\", "\u00fc"),
        ("\\H\\bold\\N\\", "bold"), ("a\\.br\\b\\.sp2\\c", "a\nb\nc"), ("\\.in4\\x", " x"), ("a\\b", "a\\b"),
        ("\\Zxy\\a", "a"), ("\\C2842\\a", "a"), ("\\X4\\a", "a"), ("\\\\a", "\\\\a"), ("\\" * 5000, "\\" * 5000),
    ],
)  # fmt: skip
def test_escape_sequences_are_resolved(raw: str, text: str) -> None:
    assert Separators().text(raw) == text


def test_an_escaped_text_comes_back_as_it_was() -> None:
    for separators in (Separators(), Separators("!", "@", "+", "?", "%")):
        text = "a|b^c~d\\e&f!g@h+i?j%k"
        escaped = separators.escaped(text)
        assert separators.field not in escaped
        assert separators.text(escaped) == text


@pytest.mark.parametrize(
    "data", [b"", b"MSH", b"PID|1", b"\x00\x01", b"MSH|^~\\", b"MSH|^^\\&|", b"MSHA^~\\&A", b"FHS|^~\\&|"]
)
def test_what_has_no_header_cannot_be_answered(data: bytes) -> None:
    with pytest.raises(NotAMessage):
        header_of(data)


@pytest.mark.parametrize("signs", ["^~\\", "^~", "", "^~\\&#%", "^^^^", "^~\\|", "^~A&", "^~ &"])
def test_a_header_with_wrong_separators_is_answered_where_it_has_a_control_id(signs: str, tmp_path: Path) -> None:
    data = order(version="2.5").replace(b"^~\\&", signs.encode(), 1)
    with intake_in(tmp_path) as intake:
        answer = segments_of(intake.answer(data)[0])
        assert (answer["MSA"][1], answer["MSH"][1]) == ("AE", "^~\\&")
        if "|" not in signs:  # it shifts all fields
            assert (answer["MSA"][2], answer["ERR"][2]) == ("1", "MSH^1^2")
            assert answer["MSA"][3] == "MSH-2: does not name four or five different separators"
        assert intake.book.order_for(films_of()) == NO_ORDER


def test_a_byte_order_mark_before_the_header_is_passed_over(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        assert code_of(intake.answer(b"\xef\xbb\xbf" + order(reason="Gr\u00f6\u00dfe"))[0]) == "AA 1"
        assert intake.book.order_for(films_of()).indication == "Gr\u00f6\u00dfe"


def test_line_feeds_end_segments_too(tmp_path: Path) -> None:
    with intake_in(tmp_path) as intake:
        assert code_of(intake.answer(order().replace(b"\r", b"\r\n"))[0]) == "AA 1"
        assert intake.book.order_for(films_of()).indication == "Cough"


def test_orders_survive_a_restart_and_go_when_they_are_old(tmp_path: Path) -> None:
    now = [1000.0]
    with book_in(tmp_path, keep=100.0, clock=lambda: now[0]) as book:
        book.take("1", [read(order(priority="S"))])
    with book_in(tmp_path, keep=100.0, clock=lambda: now[0]) as book:
        assert book.order_for(films_of()).indication == "Cough"
        now[0] += 101.0
        assert book.order_for(films_of()) == NO_ORDER
        assert book.urgent() == {}
        book.take("2", [read(order("A-2", reason="Fever"))])
    assert b"Cough" not in (tmp_path / "orders.sqlite").read_bytes()


def test_of_too_many_orders_the_oldest_go(tmp_path: Path) -> None:
    now = [1000.0]
    with book_in(tmp_path, most=3, clock=lambda: now[0]) as book:
        for number in range(5):
            now[0] += 1
            book.take(str(number), [read(order(f"A-{number}"))])
        assert [book.order_of(accession_key(f"A-{number}")) is not None for number in range(5)] == [False] * 2 + [
            True
        ] * 3


def test_an_order_is_kept_and_forgotten_in_its_time_where_the_clock_has_gone_back(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with book_in(tmp_path, most=3, keep=100.0, clock=lambda: now[0]) as book:
        for number in range(3):
            book.take(str(number), [read(order(f"A-{number}"))])
        now[0] = 1000.0
        book.take("3", [read(order("A-3"))])
        there = [number for number in range(4) if book.order_of(accession_key(f"A-{number}"))]
        assert there == [1, 2, 3]
        now[0] += 101.0
        book.take("4", [read(order("A-4"))])
        assert not any(book.order_of(accession_key(f"A-{number}")) for number in range(4))


def test_damaged_orders_are_put_away_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "orders.sqlite").write_bytes(b"no data base" * 500)
    with book_in(tmp_path) as book:
        assert book.take("1", [read(order())])
    assert "the orders are damaged" in caplog.text
    assert (tmp_path / "orders.sqlite.damaged").exists()
    assert (tmp_path / "orders.sqlite").stat().st_mode & 0o777 == 0o600


def test_an_order_that_cannot_be_kept_is_rejected_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    with intake_in(tmp_path) as intake:
        with monkeypatch.context() as patch:
            patch.setattr(intake.book, "take", full)
            answer = segments_of(intake.answer(order(version="2.5.1"))[0])
        assert (answer["MSA"][1], answer["ERR"][3].split("^")[0]) == ("AR", "207")
        assert code_of(intake.answer(order(version="2.5.1"))[0]) == "AA 1"


def test_a_fault_of_the_orders_holds_no_study_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with intake_in(tmp_path) as intake:
        intake.book.take("1", [read(order(priority="S"))])
        intake.book.close()
        assert intake.book.order_for(films_of()) == NO_ORDER
        assert intake.book.urgent() == {}
    assert "without its order" in caplog.text


def test_age_sex_and_procedure_of_an_order_are_kept(tmp_path: Path) -> None:
    data = f"{msh()}\rPID|1||P-1||||19500102|F\rORC|NW|P\rOBR|1||A-1|XR^Chest 2 views|||||||||Cough".encode()
    found = read(data).context
    assert found == Context("Cough", "Chest 2 views", age=found.age, sex="F")
    assert found.age == pytest.approx(76.16, abs=0.01)  # on the day of the message
    with intake_in(tmp_path) as intake:
        intake.answer(data)
        assert intake.book.order_for(films_of()).context == read(data).context


def test_a_book_of_an_older_version_gets_the_columns_it_lacks(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        book.take("1", [Order(accession_key("A-1"), patients=JANE, indication="Cough")])
        for name in ("technique", "age", "sex"):
            book._base.execute(f"ALTER TABLE orders DROP COLUMN {name}")
    with book_in(tmp_path) as book:
        assert book.order_for(films_of()).context == Context("Cough")
        book.take("2", [Order(accession_key("A-1"), patients=JANE, technique="Erect", age=63.0, sex="M")])
        assert book.order_for(films_of()).context == Context(technique="Erect", age=63.0, sex="M")
