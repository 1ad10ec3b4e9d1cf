"""An audit from studies to its files: answers, figures, page. Loads no model and names no flag."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.data.study import Study
from r2gengpt.evaluation.audit.measure import Audit
from r2gengpt.evaluation.audit.plan import plan_audit
from r2gengpt.evaluation.audit.run import ANSWERS, ask
from r2gengpt.evaluation.audit.subjects import Subject
from r2gengpt.evaluation.page.audit import write_audit_page
from r2gengpt.evaluation.page.card import write_card
from r2gengpt.files import write_whole
from r2gengpt.settings import AuditConfig
from r2gengpt.text.written import as_written, json_text
from r2gengpt.version import __version__


def run_audit(subject: Subject, studies: Sequence[Study], config: AuditConfig, output: Path) -> dict[str, Any]:
    """Ask, measure and write answers.jsonl, audit.json, audit.html and the card.

    Args:
        subject: who is asked.
        studies: of the split.
        config: how many are drawn, and of what.
        output: where the files go.

    Returns:
        The content of audit.json.

    Raises:
        InputError: no labels, an unknown source, an image that cannot be read, or answers of another audit there.
        RunError: the subject fails.
    """
    plan = plan_audit(studies, count=config.studies, seed=config.seed, sources=config.sources, no_text=subject.no_text)
    about = {
        "data": f"{config.annotation}, split {config.split}",
        "sources": " ".join(config.sources) or "all",
        "seed": str(config.seed),
        "r2gengpt": __version__,
    }
    answers = ask(subject, plan.questions, output / ANSWERS, about, config.seed)
    provenance = {**subject.identity(), **about, "studies": str(len(plan.studies))}
    found = {**Audit(plan, answers, config.seed).to_json(), "provenance": provenance}
    write_whole(output / "audit.json", json_text(found, indent=1) + "\n")
    write_audit_page(
        output / "audit.html",
        title=f"Does {subject.name} read the film?",
        audit=as_written(found),
        questions=plan.questions,
        answers=answers,
        provenance=provenance,
    )
    write_card(output, f"Model card of {subject.name}", provenance, plan.studies)
    return found
