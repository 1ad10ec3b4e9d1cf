"""The words that deny a mention, doubt it, or end the reach of either, as NegEx term sets. Names no observation.

NegEx: a cue before or after a mention acts on it, as far as the sentence goes or to the next terminating word; a
pseudo cue looks like a cue and does not act. Doubt is found by the same algorithm with a set of its own. A word that
states doubt ends a denial before it, and the other way round, so the nearer one decides. "No opacity to suggest
pneumonia" stays denied: "suggest" does not end a denial. The lists are this program's own.

Source: Chapman et al. 2001, "A simple algorithm for identifying negated findings and diseases in discharge summaries".
"""

from collections.abc import Mapping, Sequence

TermSet = Mapping[str, Sequence[str]]


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

DENIAL: TermSet = {
    "pseudo_negations": (*_DENY_PSEUDO, *_OPEN),
    "preceding_negations": _DENY_BEFORE,
    "following_negations": _DENY_AFTER,
    "termination": (*_NEW_CLAUSE, *_CAUSE, *_STATES_DOUBT),
}
DOUBT: TermSet = {
    "pseudo_negations": _DOUBT_PSEUDO,
    "preceding_negations": (*_DOUBT_BEFORE, *_OPEN),
    "following_negations": (*_DOUBT_AFTER, *_OPEN),
    "termination": (*_NEW_CLAUSE, *_STATES_DENIAL),
}
"""The keys are negspacy's names for the four kinds of cue in a set."""
