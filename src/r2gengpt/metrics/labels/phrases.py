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

import itertools
import re
from collections.abc import Mapping, Sequence

from r2gengpt.metrics.labels.negation import ASKS, TermSet


def _cues(text: str) -> tuple[str, ...]:
    """The cues of a text that has a bar between any two."""
    return tuple(" ".join(cue.split()) for cue in text.split("|"))


def _each(*parts: str) -> tuple[str, ...]:
    """The cues that have one wording of each part, one of which may be nothing."""
    return tuple(" ".join(filter(None, wordings)) for wordings in itertools.product(*map(_cues, parts)))


_DENY_BEFORE = _cues(
    """no | not | without | w/o | absence of | absent | lack of | negative for | free of | clear of | devoid of | denies
    | neither | nor | never | rather than | isn't | aren't | wasn't | weren't | doesn't | don't | fails to | failed to
    | resolved | resolution of | cleared | clearing of | clearance of | removal of | exclude | excludes
    | nothing to suggest | nothing to indicate | unlikely to be | unlikely to represent | unlikely to reflect
    | low suspicion for | low suspicion of | low likelihood of | low probability of"""
)
_NOT = "not | isn't | aren't | wasn't | weren't"
_SEEN = (
    "seen | identified | present | visualized | visualised | visible | evident | apparent | appreciated | demonstrated"
    " | noted | detected | observed | found | confirmed"
)
_END = ". | ; | ,"
"""After these, or at the end of a text, a word says all of a sentence: "effusion: no", "an effusion is likely"."""
_DENY_AFTER = (
    *_each(f"{_NOT} | no longer", " | definitely | definitively | clearly | convincingly", _SEEN),
    *_each("no longer", f"there | appreciable | discernible | detectable | identifiable | measurable | {_END}"),
    *_cues(
        """resolved | cleared | disappeared | removed | absent | gone | is excluded | are excluded
        | been excluded | ruled out | unlikely | none | is negative"""
    ),
    *_each("no | negative", _END),
)
_WHOLLY = "entirely | completely | definitely | definitively | confidently | fully | reliably | totally"
_CANNOT = "not | cannot | can't | couldn't | doesn't | don't"
_OPEN = (
    "to exclude",
    *_each(_CANNOT, f" | {_WHOLLY}", "exclude | rule out"),
    *_each(_CANNOT, " | be | been", f" | {_WHOLLY}", "excluded | ruled out"),
    *_each(_CANNOT, _WHOLLY, "be", "excluded | ruled out"),
    *_each("should | must | to", "be", "excluded | ruled out"),
    *_each("difficult to | hard to", f" | {_WHOLLY}", "exclude | rule out"),
    *_each(_WHOLLY, "excluded | ruled out"),
)
"""Wordings that leave a mention open: they deny nothing, and they doubt what stands on either side."""
_DENY_PSEUDO = (
    *_each("not", " | significantly | appreciably | substantially", "changed | increased | decreased | improved"),
    *_each(
        """not | almost | nearly | largely | mostly | partially | partly | partial | near | near - complete
        | incomplete | incompletely""",
        " | completely | complete | entirely | fully | yet",
        "resolved | cleared | resolution | clearing",
    ),
    *_cues(
        """no better | no worse | no further | no prior | no previous | no comparison | not only | not certain
        | not necessarily | not well | not optimal | not completely | none on | none in | none at"""
    ),
    *_OPEN,
)
_DOUBT_BEFORE = _cues(
    """may | might | could | possible | possibly | possibility of | probable | probably | likely | perhaps
    | presumably | presumed | questionable | question | question of | questioned | suspicious for | suspicion of
    | suspicion for | suspected | suspect | concerning for | concern for | worrisome for | suggest | suggests
    | suggested | suggesting | suggestive of | compatible with | rule out | r/o | evaluate for | evaluation for
    | evaluation of | assess for | assessment for | assessment of | in the appropriate clinical setting
    | in the proper clinical setting | versus | vs | vs. | differential | consider | considered | considerations include
    | either | borderline | equivocal | less likely | potential | potentially | indeterminate | unclear | favor | favors
    | favored | favoring | favour | favours | favoured | favouring | doubt | doubtful | if any | query | suggestion of
    | correlate for | correlate clinically | clinically correlate | correlation for"""
)
_DOUBT_AFTER = (
    *_cues(
        """is possible | are possible | is probable | is suspected | are suspected | suspected | is questioned
        | questioned | be considered | in the appropriate clinical setting | in the proper clinical setting
        | is considered | is a consideration | a possibility | in the differential | a concern | may be present
        | might be present | could be present | not certain
        | uncertain | less likely | more likely than | equivocal | versus | vs | vs. | ? | doubtful"""
    ),
    *_each("likely | possibly | probably", "present"),
    *_each("if any", _END),
    *_each("favored | favoured", f"over | {_END}"),
    *_each("likely | possible | probable | questionable | suggested", _END),
)
_DOUBT_PSEUDO = (
    *_cues("without question | no question | no doubt | in question | possible to"),
    *_each("if any", " | interval | significant", "change"),
)
_NEW_CLAUSE = (
    *_cues(
        """but | however | although | though | except | aside from | apart from | other than | yet | nevertheless
        | which | whereas | while | still | with exception of | with the exception of | otherwise | there is
        | there are | and there | and the heart | heart is | heart size | cardiac silhouette is | lungs are
        | since | after | following | status post | s/p"""
    ),
    ";",
    ":",
    *(
        f"{link} {kind}"
        for link in (",", "with")
        for kind in _cues(
            """small | tiny | trace | slight | mild | minor | minimal | moderate | stable | unchanged | persistent
            | superimposed | residual"""
        )
    ),
    *_each(
        "with", "new | residual | increased | increasing | decreased | decreasing | worsening | improved | improving"
    ),
    *_each("post", "chest | drain | tube | line | picc | pacemaker | removal | insertion | placement"),
    *_each("and", "new | residual | increased | worsening | stable | unchanged | persistent"),
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
    pseudo=_DENY_PSEUDO,
)
DOUBT = TermSet(
    before=(*_DOUBT_BEFORE, *_OPEN, ASKS),
    after=(*_DOUBT_AFTER, *_OPEN),
    ends=(*_NEW_CLAUSE, *_STATES_DENIAL),
    pseudo=_DOUBT_PSEUDO,
)


_RATIO = r"(?:ctr|cardio-?thoracic ratio)"
PRESENT: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": (
        r"(?:cardio)?mediastin(?:um|al)(?: (?:contours?|silhouettes?|borders?|shadow))? ~"
        r"(widen(?:ed|ing)|wide|enlarge(?:d|ment)|prominen(?:t|ce)|fullness)",
        r"(widen(?:ed|ing)|wide|enlarge(?:d|ment)|prominen(?:t|ce)|fullness) "
        r"(?:(?:of|in) )?(?:the )?(?:\w+ )?(?:cardio)?mediastin(?:um|al)",
    ),
    "Cardiomegaly": (
        r"cardiomegaly|cardiac enlargement",
        r"(?:heart|cardiac (?:silhouette|size|contours?|shadow)|cardiomediastinal silhouette) ~"
        r"(enlarged|enlargement|large|prominent)",
        r"(enlarged|enlargement|large|prominen(?:t|ce)) "
        r"(?:(?:of|in) )?(?:the )?(?:\w+ )?(?:heart|cardiac|cardiomediastinal silhouette)",
        r"(?:heart|cardiac) size (?:is |has |appears )?(?!not )(?:\w+ )?(increased)|(increased) (?:heart|cardiac) size",
        rf"{_RATIO} ~(increased|enlarged|elevated)|(increased|enlarged|elevated) {_RATIO}",
    ),
    "Lung Opacity": (
        r"(?:\w+)?opacit(?:y|ies)",
        r"(?:\w+)?opacifications?",
        r"infiltrat(?:es?|ions?)",
        r"air ?-?space (?:disease|process|changes?)",
        r"(?<!breast )(?<!nipple )(?<!rib )(?<!tissue )(?<!cardiac )shadowing",
        r"(?:peri)?bronchial (?:wall )?(?:thickening|cuffing)",
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
        r"congestive (?:heart )?failure|congestive changes?|chf|ccf",
        r"heart failure|cardiac (?:failure|decompensation)",
        r"(?:fluid|volume) overload",
        r"upper (?:lobe|zone) (?:\w+ )?diversion",
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
        r"infecti(?:ous|ve) (?:process|infiltrates?|a?etiology|changes?|disease)|(?<!granulomatous )infection",
    ),
    "Atelectasis": (
        r"atelect\w+|atx",
        r"(?<!vertebral )(?<!body )(?<!plate )(?<!height )(?<!spinal )(?<!tracheal )collapse(?! of)",
        r"collapse(?= of (?:the )?~(?:lungs?|lobe))",
    ),
    "Pneumothorax": (r"(?:hydro|h(?:a)?emo)?pneumothora(?:x|ces)|ptx",),
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
    "Fracture": (r"fractures?|fractured|fxs?",),
    "Support Devices": (
        r"tubes?(?! removal)|tubing|trach(?:eostomy)?|shunt|cannulae?|ett|ngt|ogt",
        r"catheters?(?! removal)|picc|cvc|uac|uvc|[rl]ij",
        r"(?:central|venous|picc|subclavian|jugular|support|dialysis|arterial|iv|ij) lines?(?! removal)",
        r"pacemakers?|ppm|pacers?|pacing \w+|aicd|icd|defibrillators?|generator|leads",
        r"port|port-a-cath|porta ?-?cath|mediport",
        r"(?:prosthetic|artificial|mechanical|replacement) (?:\w+ )?valves?|valve (?:replacement|prosthesis)|stents?",
        r"hardware|prosthes[ie]s|prosthetic|arthroplasty|devices?|drains?(?! removal)|stimulators?",
        r"tav[ri]|balloon pump|iabp|lvad|swan-? ?ganz|dobb?hoff",
    ),
}
"""Observation → wordings that say it is there unless a cue denies or doubts it."""

EQUIVOCAL: Mapping[str, Sequence[str]] = {
    "Cardiomegaly": (
        r"(?:heart|cardiac|cardiomediastinal) ~borderline",
        r"borderline (?:in )?(?:enlarged )?(?:heart|cardiac)",
        r"(?:heart|cardiac|cardiomediastinal) ~normal (?:in size )?to \w+ enlarged",
    ),
}
"""Observation → wordings that leave it open by themselves."""

_HEART_AND_MEDIASTINUM = "cardio(?:mediastinal|thymic)"
_NORMAL = r"(?:normal|unremarkable|within (?:\w+ )?(?:normal )?limits)"
ABSENT: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": (
        rf"mediastin(?:um|al) ~{_NORMAL}",
        rf"{_HEART_AND_MEDIASTINUM} ~{_NORMAL}",
        r"normal (?:(?:heart|cardiac|hilar|size|silhouette|contours?|and|the),? )*"
        r"(?:mediastin(?:um|al (?:contours?|silhouette|borders?))|cardio(?:mediastinal|thymic) silhouette)",
    ),
    "Cardiomegaly": (
        rf"(?:heart|cardiac|{_HEART_AND_MEDIASTINUM}|{_RATIO}) ~{_NORMAL}",
        rf"normal (?:size|sized|appearance)? ?(?:\w+ ){{0,8}}(?:heart|cardiac|{_HEART_AND_MEDIASTINUM}|{_RATIO})",
    ),
    "Lung Opacity": (r"lungs? ~clear", r"clear lungs"),
    "Edema": (rf"(?:pulmonary )?vascula(?:rity|ture) ~{_NORMAL}", r"normal pulmonary vascula(?:rity|ture)"),
    "Pleural Effusion": (r"(?:pleurae?|pleural spaces?|costophrenic \w+|cp angles?) ~(?:clear|sharp|preserved)",),
    "Fracture": (r"(?:bones|(?:osseous|bony|skeletal) structures) ~intact",),
}
"""Observation → wordings that deny it by calling something normal; without a "not" before that."""

_ONE_SEEN = f"(?:{'|'.join(_cues(_SEEN))})"
_SOME = """interval|significant|appreciable|definite|substantial|relevant|material|obvious|major|convincing|real|large
|notable|detectable|discernible|considerable|marked|clear|visible|apparent|meaningful|important|new|short|short-term"""
NO_CHANGE = re.compile(
    rf"\b(?:no|without) (?:(?:{''.join(_SOME.split())}) ){{0,3}}"
    r"(?:changes?|increase|decrease|reduction|improvement|worsening|progression|resolution|clearing)\b"
)
"""Words that deny a change, not what has changed; a denial and a doubt before them end there."""
OWN_CLAUSE = re.compile(
    r",(?! and\b)(?=(?: (?!or\b|nor\b|no\b)[\w-]+){1,7}? "
    r"(?:unchanged|stable|persists?|remains?|again|improved|worse|worsened|increased|decreased|larger|smaller)\b)"
)
"""The comma before a clause that says what has become of something: no denial reaches over it."""
_ANOTHER = "prior|previous|earlier|preceding|comparison|old|outside"
ELSEWHERE = re.compile(
    rf"\b(?:{'|'.join(_cues(_NOT))}) (?:previously {_ONE_SEEN}"
    rf"|{_ONE_SEEN} (?:previously|before|(?:on|in|at) (?:(?:the|a|any|most|recent|last|chest) )*(?:{_ANOTHER})))\b"
    rf"|\bpreviously (?:not {_ONE_SEEN}|un\w+)"
    rf"|(?<=, )not {_ONE_SEEN} (?:on|in|at) (?:the )?(?:lateral|frontal|pa|ap|other|left|right)\b"
    rf"|\bnot {_ONE_SEEN} (?:below|beyond|past|distal)\b"
    rf"|\b((?:tip|side ?-?(?:port|hole))(?: [\w-]+){{0,6}}?) not (?:\w+ )?{_ONE_SEEN}\b"
)
"""Words that tell of another film, of the other side, or of the tip of a device, and deny nothing that stands before
them. The group holds those that stay."""
LISTED = re.compile(r";(?=(?:(?: [\w-]+){1,4};)? (?:or|nor)\b)")
"""The semicolons of a list: "no edema; effusion; or nodule"."""
ASKED = re.compile(r"(?<![\w?])\?(?= ?[a-z])")
"""The mark that a doubt begins with: "?effusion"."""
HEADING = re.compile(
    r":(?= ?(?:none|absent|negative|not|no longer|resolved|cleared|removed|unlikely|ruled out|possible|probable|likely"
    r"|suspected|questionable|equivocal|uncertain|no ?(?:[.;,]|$)|\?))"
)
"""The colon behind a heading that the next words deny or doubt: no clause ends there."""

GAP = r"(?:(?!normal|unremarkable|aort|lungs?\b)[\w/'-]+,? ){0,8}?"
"""Words between the parts of a pattern; none of them may begin a statement on something else."""
_HEADED = "(?:(?: size| silhouette| contours?)?(?::| -))?"
"""What may part a heading from what it says: "heart: enlarged"."""
GAP_TO_NORMAL = GAP.replace("(?!", r"(?!not\b|")


def compiled(wordings: Mapping[str, Sequence[str]], gap: str = GAP) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Observation and compiled pattern, one pair for each pattern."""
    return tuple(
        (observation, re.compile(rf"\b(?:{pattern.replace(' ~', rf'{_HEADED} {gap}').replace('~', gap)})(?!\w)"))
        for observation, patterns in wordings.items()
        for pattern in patterns
    )
