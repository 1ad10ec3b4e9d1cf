r"""How reports word the observations, as patterns. Not how they deny or doubt them: that is in `cues`.

A pattern is a regular expression over lower-case text that starts and ends at word boundaries. Where it has a group,
the mention is that group and the words before it are only its context, so that in "heart is not enlarged" the mention
is "enlarged" and "not" stands before it. `~` stands for up to eight words of the same clause. The lists are this
program's own.
"""

import re
from collections.abc import Mapping, Sequence

PRESENT: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": (
        r"(?:cardio)?mediastin(?:um|al)(?: (?:contours?|silhouettes?|borders?|shadow))? ~"
        r"(widen(?:ed|ing)|wide|enlarge(?:d|ment)|prominen(?:t|ce)|fullness)",
        r"(widen(?:ed|ing)|wide|enlarge(?:d|ment)|prominen(?:t|ce)|fullness) "
        r"(?:of )?(?:the )?(?:\w+ )?(?:cardio)?mediastin(?:um|al)",
    ),
    "Cardiomegaly": (
        r"cardiomegaly|cardiac enlargement",
        r"(?:heart|cardiac (?:silhouette|size|contours?|shadow)|cardiomediastinal silhouette) ~"
        r"(enlarged|enlargement|large|prominent)",
        r"(enlarged|enlargement|large|prominen(?:t|ce)) "
        r"(?:of )?(?:the )?(?:\w+ )?(?:heart|cardiac|cardiomediastinal silhouette)",
    ),
    "Lung Opacity": (
        r"(?:\w+)?opacit(?:y|ies)",
        r"(?:\w+)?opacifications?",
        r"infiltrat(?:es?|ions?)",
        r"air ?-?space (?:disease|process|changes?)",
        r"interstitial (?:markings?|prominence|thickening|(?:lung )?disease|changes?|pattern)",
        r"(?:lung|pulmonary|bronchovascular) markings? ~(increased|prominent|coarse)",
        r"(?:increased|prominent|coarse(?:ned)?) (?:\w+ )?(?:interstitial|lung|pulmonary|bronchovascular) markings?",
        r"(?<!pleural )(?:scarring|scars?)|fibrosis",
        r"haz(?:e|iness|y)",
        r"(?<!bone )(?<!bony )(?<!mineral )densit(?:y|ies)",
    ),
    "Lung Lesion": (
        r"nodul(?:es?|ar (?:densit(?:y|ies)|opacit(?:y|ies)|lesions?))",
        r"mass(?:es)?",
        r"(?:lung|pulmonary|cavitary|suspicious) lesions?",
        r"neoplasms?|malignanc(?:y|ies)|carcinoma|tumou?rs?|metasta(?:sis|ses|tic disease)",
    ),
    "Edema": (
        r"(?<!soft tissue )o?edema",
        r"congestion|(?:pulmonary )?venous hypertension",
        r"congestive (?:heart )?failure|congestive changes?|chf",
        r"heart failure|cardiac (?:failure|decompensation)",
        r"(?:fluid|volume) overload",
        r"vascular (?:prominence|redistribution)|cephalization|kerley b? ?lines?",
        r"vascular engorgement(?! ~(?:within|normal))",
        r"(?:pulmonary|central|lung|hilar) (?:vascula(?:rity|ture|r markings?)|vessels) ~"
        r"(prominen(?:t|ce)|engorged|congested|indistinct|increased)",
        r"pulmonary \w+ (?:is|are|appears?) (?:\w+ )?(engorged|congested)",
        r"(prominen(?:t|ce)|engorge(?:d|ment)|congested|indistinct|increased) ~"
        r"(?:pulmonary|central|lung) vascula(?:r|rity|ture)",
    ),
    "Consolidation": (r"consolidat(?:ions?|ive \w+|ed)",),
    "Pneumonia": (
        r"(?:broncho)?pneumonias?|pneumonic \w+",
        r"infectious (?:process|infiltrates?|etiology)|(?<!granulomatous )infection",
    ),
    "Atelectasis": (
        r"atelect\w+",
        r"(?:lobar|lobe|lung|segmental|partial) collapse|collapse(?= of (?:the )?~(?:lungs?|lobe))",
    ),
    "Pneumothorax": (r"(?:hydro|h(?:a)?emo)?pneumothora(?:x|ces)",),
    "Pleural Effusion": (
        r"(?<!pericardial )(?<!joint )effusions?",
        r"pleural fluid|fluid (?:collection )?(?:in|within|along) the ~(?:pleura|fissures?)",
        r"hydropneumothorax|ha?emo(?:pneumo)?thorax|hydrothorax|empyema",
    ),
    "Pleural Other": (
        r"pleural (?:thickening|plaques?|calcifications?|scarring|scars?|disease|reaction|abnormalit(?:y|ies))",
        r"pleur(?:o|al)[ /-]?parenchymal (?:scarring|scars?|thickening|changes?)",
        r"thickening of the (?:\w+ )?pleura",
        r"(?:apical|pleural) (?:capping|cap)|apical thickening|fissural thickening|fibrothorax",
    ),
    "Fracture": (r"fractures?|fractured",),
    "Support Devices": (
        r"tubes?|tubing|tracheostomy|shunt",
        r"catheters?|picc|(?:central|venous|picc|subclavian|jugular|support|dialysis|arterial|iv) lines?",
        r"pacemakers?|pacers?|pacing \w+|aicd|icd|defibrillators?|generator|leads",
        r"port|port-a-cath|porta ?-?cath|mediport",
        r"(?:prosthetic|artificial|mechanical|replacement) (?:\w+ )?valves?|valve (?:replacement|prosthesis)|stents?",
        r"hardware|prosthes[ie]s|prosthetic|arthroplasty|devices?|drains?|stimulators?",
        r"balloon pump|iabp|lvad|swan-? ?ganz|dobb?hoff",
    ),
}
"""Observation → wordings that say it is there unless a cue denies or doubts it."""

EQUIVOCAL: Mapping[str, Sequence[str]] = {
    "Cardiomegaly": (
        r"(?:heart|cardiac|cardiomediastinal) ~borderline",
        r"borderline (?:in )?(?:enlarged )?(?:heart|cardiac)",
    ),
}
"""Observation → wordings that leave it open by themselves."""

_NORMAL = r"(?:normal|unremarkable|within (?:\w+ )?(?:normal )?limits)"
ABSENT: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": (rf"mediastin(?:um|al) ~{_NORMAL}", rf"cardiomediastinal ~{_NORMAL}"),
    "Cardiomegaly": (
        rf"(?:heart|cardiac|cardiomediastinal) ~{_NORMAL}",
        r"normal (?:size|sized|appearance)? ?(?:\w+ )*(?:heart|cardiac|cardiomediastinal)",
    ),
    "Lung Opacity": (r"lungs? ~clear", r"clear lungs"),
    "Edema": (rf"(?:pulmonary )?vascula(?:rity|ture) ~{_NORMAL}", r"normal pulmonary vascula(?:rity|ture)"),
    "Pleural Effusion": (r"(?:pleural spaces?|costophrenic \w+) ~(?:clear|sharp)",),
    "Fracture": (r"(?:osseous|bony|skeletal) structures ~intact",),
}
"""Observation → wordings that deny it by calling something normal."""

GAP = r"(?:(?!normal|unremarkable|aort|lungs?\b)[\w/'-]+,? ){0,8}?"
"""Words between the parts of a pattern; none of them may begin a statement on something else."""


def compiled(wordings: Mapping[str, Sequence[str]]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Observation and compiled pattern, one pair for each pattern."""
    return tuple(
        (observation, re.compile(rf"\b(?:{pattern.replace('~', GAP)})(?!\w)"))
        for observation, patterns in wordings.items()
        for pattern in patterns
    )
