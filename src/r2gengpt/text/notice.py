"""What every report that leaves the program is called. Not the report itself."""

NOTICE = "AI draft, not verified, research only"


def with_notice(report: str) -> str:
    """The report as plain text whose first line is the notice."""
    return f"{NOTICE}\n\n{report}\n"
