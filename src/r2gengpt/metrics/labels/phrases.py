"""How reports word, deny and doubt the observations, as patterns and NegEx term sets. Reads no text.

NegEx: a cue before or after a mention acts on it, as far as the sentence goes or to the next terminating word; a
pseudo cue looks like a cue and does not act. Doubt is found by the same algorithm with a set of its own. A word that
states doubt ends a denial before it, and the other way round, so the nearer one decides. "No opacity to suggest
pneumonia" stays denied: "suggest" does not end a denial. The lists are this program's own.

Source: Chapman et al. 2001, "A simple algorithm for identifying negated findings and diseases in discharge summaries".

A pattern is a regular expression over lower-case text that starts and ends at word boundaries. Where it has a group,
the mention is that group and the words before it are only its context, so that in "heart is not enlarged" the mention
is "enlarged" and "not" stands before it. `~` stands for up to eight words of the same clause. The lists are this
program's own.
"""

import re
from collections.abc import Mapping, Sequence

from r2gengpt.metrics.labels.negation import TermSet


def _cues(text: str) -> tuple[str, ...]:
    """The cues of a text that has a bar between any two."""
    return tuple(" ".join(cue.split()) for cue in text.split("|"))


_DENY_BEFORE = _cues(
    """no | not | without | w/o | absence of | absent | lack of | negative for | free of | clear of | devoid of | denies
    | neither | nor | never | rather than | isn't | aren't | wasn't | weren't | doesn't | don't | fails to | failed to
    | resolved | resolution of | cleared | clearing of | clearance of | removal of | exclude | excludes"""
)
_DENY_AFTER = _cues(
    """not seen | not identified | not present | not visualized | not visible | not evident | not apparent
    | not appreciated | not demonstrated | not noted | not detected | not observed | not found | not definitely seen
    | not clearly seen | no longer | resolved | cleared | disappeared | removed | absent | is gone | is excluded
    | are excluded | ruled out | unlikely | none | is negative"""
)
_OPEN = _cues(
    """cannot exclude | can not exclude | cannot be excluded | can not be excluded | could not be excluded
    | not excluded | not be excluded | not exclude | to exclude | difficult to exclude | entirely excluded
    | completely excluded | definitely excluded | definitively excluded | confidently excluded | fully excluded
    | reliably excluded | cannot rule out | can not rule out | cannot be ruled out | can not be ruled out
    | not be ruled out | not ruled out"""
)
"""Wordings that leave a mention open: they deny nothing, and they doubt what stands on either side."""
_DENY_PSEUDO = _cues(
    """no change | no changes | no interval change | no significant change | no significant interval change
    | no appreciable change | no definite change | no substantial change | not changed | not significantly changed
    | not appreciably changed | without change | without significant change | without significant interval change
    | without interval change | no increase | no interval increase | no significant increase | not increased
    | no decrease | not decreased | no improvement | not improved | no worsening | no progression | no better
    | no worse | no further | no prior | no previous | no comparison | not only | not certain | not necessarily
    | not well | not optimal | not completely | not resolved | not cleared | incompletely resolved
    | incompletely cleared | nearly resolved | nearly cleared | almost resolved | partially resolved
    | partially cleared | partial resolution | partial clearing"""
)
_DOUBT_BEFORE = _cues(
    """may | might | could | possible | possibly | possibility of | probable | probably | likely | perhaps
    | presumably | presumed | questionable | question | question of | questioned | suspicious for | suspicion of
    | suspicion for | suspected | suspect | concerning for | concern for | worrisome for | suggest | suggests
    | suggested | suggesting | suggestive of | compatible with | rule out | r/o | evaluate for | evaluation for
    | evaluation of | assess for | assessment for | assessment of | in the appropriate clinical setting
    | in the proper clinical setting | versus | vs | vs. | differential | consider | considered | considerations include
    | either | borderline | equivocal | less likely | potential | potentially | indeterminate | unclear"""
)
_DOUBT_AFTER = _cues(
    """is possible | are possible | is probable | is suspected | are suspected | suspected | is questioned
    | questioned | be considered | in the appropriate clinical setting | in the proper clinical setting
    | is considered | is a consideration | may be present | might be present | could be present
    | not certain | uncertain | less likely | equivocal | versus | vs | vs. | ?"""
)
_DOUBT_PSEUDO = _cues("without question | no question | in question | possible to")
_NEW_CLAUSE = (
    *_cues(
        """but | however | although | though | except | aside from | apart from | other than | yet | nevertheless
        | which | whereas | while | still | with exception of | with the exception of | otherwise | there is
        | there are | and there | and the heart | heart is | heart size | cardiac silhouette is | lungs are"""
    ),
    ";",
    ":",
    *(
        f"{link} {kind}"
        for link in (",", "with")
        for kind in _cues("small | mild | minimal | moderate | stable | unchanged | persistent")
    ),
)
_CAUSE = _cues("secondary to | due to | related to | because of | from")
"""These end a denial, and no doubt: in "may be due to edema" it is the edema that is doubted."""
_STATES_DOUBT = _cues(
    "possible | possibly | probable | probably | likely | may | might | could | perhaps | questionable"
)
_STATES_DENIAL = _cues("no | without | negative for | free of")

DENIAL = TermSet(
    before=_DENY_BEFORE,
    after=_DENY_AFTER,
    ends=(*_NEW_CLAUSE, *_CAUSE, *_STATES_DOUBT),
    pseudo=(*_DENY_PSEUDO, *_OPEN),
)
DOUBT = TermSet(
    before=(*_DOUBT_BEFORE, *_OPEN),
    after=(*_DOUBT_AFTER, *_OPEN),
    ends=(*_NEW_CLAUSE, *_STATES_DENIAL),
    pseudo=_DOUBT_PSEUDO,
)


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
