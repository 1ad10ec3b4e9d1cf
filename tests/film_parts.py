"""What films show in tests: findings, and a report that they contradict. No test stands here."""

from r2gengpt.report import Finding, Report, Sentence
from r2gengpt.text.observations import LIKELY, NOT_ASSESSED, POSSIBLE, UNLIKELY

EFFUSION = Finding("Pleural Effusion", 0.914159, (0.85, 0.95), LIKELY)
EDEMA = Finding("Edema", 0.44, (0.31, 0.58), POSSIBLE)
OPACITY = Finding("Lung Opacity", 0.93, (0.9, 0.96), LIKELY)
HEART = Finding("Cardiomegaly", 0.03, (0.01, 0.07), UNLIKELY)
FRACTURE = Finding("Fracture", 0.1, (0.0, 0.6), NOT_ASSESSED)
FINDINGS = (HEART, OPACITY, EDEMA, EFFUSION, FRACTURE)
"""In an order of its own, as a head gives them."""
REASON = "the film shows pleural effusion: likely (.91)"
LEFT_OUT = "left out: lung opacity, likely (.93) on the film"
SENTENCES = (
    Sentence("The heart is normal.", 5, -0.25),
    Sentence("No pleural effusion.", 4, -0.5, needs_review=True, reason=REASON, source="train-17"),
)
REPORT = Report(
    "study",
    "The heart is normal. No pleural effusion.",
    tokens=9,
    logprob=-0.4,
    sentences=SENTENCES,
    findings=FINDINGS,
    review=(LEFT_OUT,),
)
AS_JSON = [
    {"name": "Cardiomegaly", "probability": 0.03, "interval": [0.01, 0.07], "verdict": "unlikely"},
    {"name": "Lung Opacity", "probability": 0.93, "interval": [0.9, 0.96], "verdict": "likely"},
    {"name": "Edema", "probability": 0.44, "interval": [0.31, 0.58], "verdict": "possible"},
    {"name": "Pleural Effusion", "probability": 0.9142, "interval": [0.85, 0.95], "verdict": "likely"},
    {"name": "Fracture", "probability": 0.1, "interval": [0.0, 0.6], "verdict": "not assessed"},
]
BELOW = (
    "Film shows: lung opacity likely (.93), pleural effusion likely (.91), edema possible (.44)",
    f'Needs review: "No pleural effusion." {REASON}',
    f"Needs review: {LEFT_OUT}",
)
"""What stands below its text."""
