"""Keep of each clinical note only what an image can show: the training text of the embedded model.

Rules alone, the same for train, val and test; then train studies that show the very image of another study are dropped.
Not the project's report cleaner (`r2gengpt.text`): these are case notes, with age, symptoms, laboratory values and
therapy around the findings.

    python runs/embedded/select_findings.py --annotation DATA/annotation.json --base_dir DATA/images --output DIR
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Study = dict[str, Any]

MARKS = re.compile(
    r"\s*\((?:[a-z]+ )?(?:arrows?(?: pointing)?|line)\)|\s*\(?\bFig(?:ure)?\.? ?\d+\)?(?: \([^)]*\))?"
    r"|\s*\bImage \d+[A-Z]?\b|\((?:A|B)\)",
    re.IGNORECASE,
)
"""Pointers to figures, arrows and panels of the publication."""

SPELLINGS = (
    (r"\b(?:ETT|ET tube)\b", "endotracheal tube"),
    (r"\b(?:NGT|NG(?: tube)?)\b|na-sogastric tube", "nasogastric tube"),
    (r"\b(?:CVL|CVC)\b", "central venous line"),
    (r"\bRUL\b", "right upper lobe"),
    (r"\bLUL\b", "left upper lobe"),
    (r"\bRLL\b", "right lower lobe"),
    (r"\bLLL\b", "left lower lobe"),
    (r"\bML\b", "middle lobe"),
    (r"\bGGOs?\b", "ground-glass opacities"),
    (r"\bair[- ]space\b", "airspace"),
    (r"[“”\"]", ""),
    (r"\bground glass\b", "ground-glass"),
    (r"\bill defined\b", "ill-defined"),
    (r"\bwide spread\b", "widespread"),
    (r"\bperi-hilar\b", "perihilar"),
)
"""One spelling for one thing, so that 100 reports share a vocabulary."""

FILM = r"(?:chest[ -]?x[ -]?rays?|\bCXR|radiograph(?:s|y)?|x[ -]?rays?|plain film)\b"
VERB = r"\b(?:show(?:s|n|ed|ing)?|demonstrat(?:es?|ed|ing)|reveal(?:s|ed|ing)?|depict(?:s|ed|ing)?|documents)\b"
OPENINGS = re.compile(
    rf"^(?:.*?{FILM}[^.:]*?(?:\bthat )?{VERB}(?: the)?(?: presence of)?|.*?{FILM}[^.:]*:(?: presence of)?"
    rf"|.*?{FILM} with|when patient presented to \w+ there was|this demonstrated"
    r"|note(?: the)?|however,|in retrospect,|in addition,|signs of"
    r"|radiological (?:worsening|progression|stability)(?:,? with|,)?(?: showing)?(?: new)?"
    r"|there (?:is|are|was|were)(?: also)?|an? (?!few))\s*",
    re.IGNORECASE,
)
"""What stands before the finding itself: which film, when, "shows", "there is"."""

CLOSINGS = re.compile(
    r",?\s*(?:\b(?:suggesting|considered|highly suggestive|suggestive|characteristic|typical|with typical|consistent"
    r"|secondary|in keeping|raising|which (?:may )?(?:suggest|appear)|that may represent|initially assumed|diagnosed as"
    r"|indicating|in the setting)\b(?:(?!,).)*(?:COVID|ARDS|PCP|cancer|infection|pneumonia|inflammatory)[^.]*"
    r"|\brequiring resiting|\bwere required)(?=\.?$)",
    re.IGNORECASE,
)
"""A cause at the end of a sentence, known from the laboratory and not from the film, or what was then done."""

FINDING = re.compile(
    r"opaci|consolidat|infiltrat|effusion|pneumothora|hydrothora|pneumomediast|cardiomegal|\bheart\b|cardiac|mediastin"
    r"|hilar|hilum|\blungs?\b|\bpleura|diaphragm|costophrenic|fissure|bronch(?:ogram|ial)|interstitial|reticul|nodul"
    r"|cysts?\b|pneumatoc|lucen|ground-glass|collapse|atelecta|markings|septal|thoracic|lobes?\b|zones?\b|endotracheal"
    r"|nasogastric|\btubes?\b|\blines?\b|drain\b|catheter|pacemaker|clips|hernia|shadow|carina|vascath|pneumonia"
    r"|normal (?:appearance|examination|study)|significant findings",
    re.IGNORECASE,
)
"""A word of the image. A sentence without one says nothing that can be seen."""

ELSEWHERE = re.compile(
    r"\bCT\b|tomograph|covid|\bsars|\bHIV|\bAIDS|\bPCR|ARDS\b|\bPCP\b|[mpnI][gU]/m?L|year[- ]old|\b(?:fe)?male patient"
    r"|\bwom[ae]n\b|\bman\b|sister|fever|cough|dyspn|breath|saturation|crackles|crepitation|auscultat|air entry|histor"
    r"|symptom|laborator|lymphop|antigen|culture|tested|swab|antibio|treat(?:ed|ment)|therapy|admi(?:tted|ssion)\b|presented"
    r"|discharged|passed away|physical exam|imaging exam|was suspected|suspicion|\bICU\b|intensive|organism|untreated"
    r"|proportion|infection is|attempts|classic|prior\b|earlier|remission|recurred|deteriorat|immunosup|usually"
    r"|recovery|patient (?:was|had|has an?|required)|metastasis|superimposed|crazy|last one|progressive respiratory"
    r"|absorbed|findings reported|typically|postmortem|bronchoscop|stay\b|projecting over the anatomical",
    re.IGNORECASE,
)
"""A word of the person, the laboratory, another examination, the course or the cause."""

SAME_IMAGE = 0.99
"""Correlation of two 24×24 thumbnails from which on they show one image (next pair in this data: 0.945)."""


def sentences(note: str) -> list[str]:
    """The note's sentences, figure marks and spelling variants removed."""
    text = MARKS.sub(" ", note.replace("�", " "))
    for pattern, plain in SPELLINGS:
        text = re.sub(pattern, plain, text)
    text = re.sub(r"\s+", " ", re.sub(r"\s+([.,;])", r"\1", text)).strip()
    text = re.sub(r"\.{2,}", ".", text)
    return [part for part in re.split(r"(?<=[.!?])\s+", text) if part]


def finding(sentence: str) -> str:
    """The sentence without its opening and without a cause at its end; "" where it isn't about the image.

    >>> finding("AP chest X-ray on day two demonstrated a small left pleural effusion.")
    'Small left pleural effusion.'
    >>> finding("Blood culture was negative.")
    ''
    """
    previous = None
    while previous != sentence:
        previous, sentence = sentence, OPENINGS.sub("", sentence, count=1)
    sentence = CLOSINGS.sub("", sentence).strip(" ,;:.-")
    if not FINDING.search(sentence) or ELSEWHERE.search(sentence) or len(sentence.split()) < 2:
        return ""
    return f"{sentence[0].upper()}{sentence[1:]}."


def select(note: str) -> str:
    """All findings of a note, each once, in order; "" where it has none."""
    return " ".join(dict.fromkeys(filter(None, map(finding, sentences(note)))))


def select_split(studies: Sequence[Study]) -> list[Study]:
    """The studies whose note has a finding, with that as their report."""
    chosen = ((study, select(study["report"])) for study in studies)
    return [study | {"report": report} for study, report in chosen if report]


def thumbnail(path: Path) -> NDArray[np.float64]:
    """(576,) grey values of the image made 24×24, mean 0 and length 1."""
    with Image.open(path) as image:
        small = np.asarray(image.convert("L").resize((24, 24), Image.Resampling.BOX), dtype=np.float64).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-12)


def without_copies(studies: Sequence[Study], held_out: Sequence[Study], base_dir: Path) -> list[Study]:
    """The studies none of whose images is also in a held-out study or in an earlier one of their own.

    Two publications may show one patient: split by patient number, the same film then stands in train and val.
    """
    seen = [thumbnail(base_dir / path) for study in held_out for path in study["image_path"]]
    kept = []
    for study in studies:
        own = [thumbnail(base_dir / path) for path in study["image_path"]]
        if all(float(image @ other) < SAME_IMAGE for image in own for other in seen):
            kept.append(study)
            seen += own
    return kept


def main() -> None:
    """Read, select, write whole or not at all, print the counts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--annotation", type=Path, required=True, help="annotation.json in R2Gen's format")
    parser.add_argument("--base_dir", type=Path, required=True, help="directory that image paths are relative to")
    parser.add_argument("--output", type=Path, required=True, help="directory for the new annotation.json")
    args = parser.parse_args()
    before = json.loads(args.annotation.read_text(encoding="utf-8"))
    after = {split: select_split(studies) for split, studies in before.items()}
    with_text = {split: len(studies) for split, studies in after.items()}
    after["train"] = without_copies(after["train"], before["val"] + before["test"], args.base_dir)
    args.output.mkdir(parents=True, exist_ok=True)
    new = args.output / "annotation.json.new"
    new.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(args.output / "annotation.json")
    for split, studies in after.items():
        words = sum(len(study["report"].split()) for study in studies) / max(len(studies), 1)
        print(
            f"{split}: {len(before[split])} studies, {with_text[split]} with findings, {len(studies)} kept "
            f"without copies, {words:.1f} words a report"
        )


if __name__ == "__main__":
    main()
