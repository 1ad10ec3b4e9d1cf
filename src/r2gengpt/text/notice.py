"""What every report that leaves the program is called. Not the report itself."""

NOTICE = "AI draft, not verified, research only"


def with_notice(report: str, note: str = "") -> str:
    """The report as plain text whose first line is the notice, and the next one the note where there is one."""
    return f"{NOTICE}\n{note}\n\n{report}\n" if note else f"{NOTICE}\n\n{report}\n"


def noted(note: str) -> str:
    """The notice, and the note where there is one, in a line."""
    return f"{NOTICE}. {note}" if note else NOTICE


def noted_json(note: str) -> dict[str, str]:
    """The notice as a part of a record, and beside it the note where there is one."""
    return {"notice": NOTICE, "note": note} if note else {"notice": NOTICE}


def with_note(report: str, note: str) -> str:
    """The report under the note on its images; as it is where there is none."""
    return f"{note}\n\n{report}" if note else report
