"""Case notes to the sentences that describe the film: no history, no treatment, no other examination, no earlier film.

A model sees one study. What the note tells of the patient, of laboratory, of a CT or of the course since another film
cannot be seen there, and neither can the name of the germ.
"""

import re

from r2gengpt.text.sentences import sentence_spans

_SECTION = re.compile(r"\b(?:Imaging|Image) (?:Notes?|Findings)\s*:(.*?)(?=(?:Case )?Discussion\s*:|$)", re.I | re.S)
"""The part of a case that is about its pictures."""
_HEADING = re.compile(r"\b(?:Presentation|Discussion|Case Discussion|Impression|Imaging (?:Notes?|Findings))\s*:", re.I)
_SIGNS = (
    (re.compile(r"[\s\ufffd]+"), " "),
    (re.compile(r"\?(?=[A-Za-z])|(?<=[a-z])\?(?=[\s,])"), ""),  # quotation marks, as some tables have lost them
    (re.compile(r"\s*\((?:[^()]*\b(?:fig\w*|arrows?|lines?)\b[^()]*)\)", re.I), ""),
    (re.compile(r"\s*\bImage \d+[A-Z]?\b|\s*\bwith worsening aeration\b", re.I), ""),
    (re.compile(r"\b(air[- ]?space) shadowing\b", re.I), r"\1 opacity"),
    (re.compile(r"\bcondensation\b"), "consolidation"),
    (re.compile(r"\bnodular pattern\b"), "nodular opacity"),
    (re.compile(r"(?<=[a-z])\.(?=[A-Z])"), ". "),
    (re.compile(r"(?<=[a-z]),(?=[a-z])"), ", "),
    (re.compile(r"\s*\.(?:\s*\.)+"), "."),
    (re.compile(r"\s+(?=[.,])"), ""),
    (re.compile(r"\s+"), " "),
)
"""What notes hold beside words, and words that the rule labeller has not → what stands for them."""
_FILM = (
    r"\b(?:chest |conventional |portable |bedside |plain )*"
    r"(?:x-? ?rays?|radiographs?|radiography|cxr|films?|projections?|view)\b"
)
_SHOWS = (
    r"(?:(?:also )?(?:shows?|showed|showing|demonstrat(?:es?|ed|ing)|reveal(?:s|ed|ing)?|depict(?:s|ed|ing)?|"
    r"documents)(?: the presence of| an?| the)*\s|\)?:\s)"
)
_LEAD = re.compile(rf"^[^.;:]{{0,60}}?{_FILM}[^.;:]{{0,60}}?{_SHOWS}\s*", re.I)
"""How a sentence begins that says which film it is about: "AP chest X-ray on the second day showed"."""
_DISEASE = r"(?:covid|ards\b|acute resp|sars|infection|aspiration|primary lung|pneumonia of)"
_TAIL = re.compile(
    r",?\s*(?:with )?\b(?:considered|characteristic|typical|classical|suggesting|suggestive of|secondary to|"
    rf"consistent with|in keeping with|diagnosed as|initially assumed)\b[^.,;]*\b{_DISEASE}[^.;]*",
    re.I,
)
"""A disease at the end of a sentence that describes something."""
_SINCE = re.compile(
    r"\b(?:(?:with )?(?:radiological|further) (?:progression|worsening),? (?:with|showing)|progressive(?:ly)?|"
    r"persistent|new|now|stable|(?<!radiological )worsening|unchanged|established)\s+",
    re.I,
)
"""What a sentence says of earlier films in a word, and can go without."""
_DESCRIBES = re.compile(
    r"opacit|opacif|consolidat|infiltrat|ground[- ]?glass|nodul|\blungs?\b|effusion|pneumothora|pneumomediast|atelecta|"
    r"collapse|edema|\bheart\b|cardiac|cardio|mediastin|hil(?:um|ar)\b|interstitial|reticul|shadow|thicken|"
    r"air[- ]?space|bronchogram|hyperlucen|density|"
    r"pleura|costophrenic|diaphragm|bone lesion|\btubes?\b|catheter|jugular|pacemaker|"
    r"tracheostomy|\bclips\b|\b(?:ET|NG)T\b|\bCV[CL]\b|in situ|pattern|hernia|hydrothorax|"
    r"thoracic abnormal|normal (?:appearances|examination|study|chest|film)|no significant findings|limits of the norm",
    re.I,
)
"""A sentence on a film names a part of the chest, a finding or a device."""
_TELLS = re.compile(
    r"opacit|opacif|consolidat|infiltrat|ground[- ]?glass|nodul|effusion|pneumothora|atelecta|edema|enlarged|"
    r"interstitial|reticul|shadow|thicken|bronchogram|hydrothorax|hernia|markings",
    re.I,
)
_DENIAL = re.compile(r"\b(?:no|without)\b", re.I)
_IS_CLEAR = re.compile(
    r"normal (?:appearances|examination|study|chest|film)|no significant findings|limits of the norm|thoracic abnormal|"
    r"lungs (?:are |and pleural spaces are )?clear|^no collapse or consolidation",
    re.I,
)
_ELSEWHERE = re.compile(r"\b(?:ct|tomograph\w*|mri|ultrasound|post-?mortem)\b", re.I)
"""Another examination; the sentences after it are on that one until a film is named."""
_OTHER = re.compile(
    # whose film it is and what became of them
    r"\b(?:patient|he|she|his|her|man|woman|male|female|year-?old|years? old|admitted|admission|discharged?|"
    r"hospital\w*|emergency|presented|presents|presenting|history|symptom\w*|fever\w*|febrile|cough\w*|dyspn\w*|breath\w*|pain|"
    r"saturation|oxygen|desatur\w*|died|death|passed away|icu|itu|hdu|deteriorat\w*|recover\w*|smok\w+|"
    r"auscultation|crackles|diagnos\w+|victim|requir\w*|attempts?|intubat\w*|"
    # treatment, laboratory, other examinations
    r"treat\w*|therap\w*|antibiot\w*|steroid\w*|surgery|chemotherapy|radiotherapy|ventilat\w*|pcr|laborator\w*|crp|"
    r"lymphop\w*|leu[ck]ocyt\w*|culture|antigen|serolog\w*|biops\w*|histolog\w*|hpe|bronchoscop\w*|hiv|aids|cd4|"
    r"[mnp]g/\w+|iu/l|sequences|clinical\w*|[a-d] shows|"
    # germs and diseases that no film names
    r"covid\S*|coronavirus|sars\S*|pcp|pneumocystis|legionella\w*|klebsiella|mycoplasma|chlamydia|viral|virus|fungal|"
    r"varicella|aspergillosis|germ\w*|ards|acute respiratory distress|aspiration|metast\w+|lymphoma|differential|"
    r"possibilit\w+|typical\w*|classic\w*|usually|sometimes|cases?|may|might|should|would|could|further assess\w*|"
    # other films and the course since them
    r"prior|previous\w*|earlier|later|since|interval|progress\w*|worsen\w*|improv\w*|regress\w*|resol\w*|"
    r"increas(?:e|es|ed|ing) (?:in|of)|persist\w*|remain\w*|again|developed|developing|has|have|"
    r"days?|weeks?|months?|hours?|follow-?up|repeat|serial|initial\w*|subsequent\w*|re-?appearance|stability|"
    r"unaltered|declined|reducing|retrospect|resiting|image|confirmed|changes in the other)\b",
    re.I,
)
"""What makes a sentence one on something else than the film."""
LONGEST = 5
"""Sentences."""


def film_sentences(note: str) -> str:
    """The sentences of a note that describe its film, in its own words but for openings.

    Empty where none does, or where those that do only tell of devices and of what is absent: the film may show more.

    >>> film_sentences("Fever for 3 days. AP chest X-ray on admission shows opacities in both lungs. PCR positive.")
    'Opacities in both lungs.'
    """
    sections = _SECTION.findall(note)
    text = " ".join(sections) if sections else note
    for sign, instead in _SIGNS:
        text = sign.sub(instead, text)
    kept: list[str] = []
    elsewhere = False
    for first, last in sentence_spans(text):
        sentence = text[first:last]
        elsewhere = bool(_ELSEWHERE.search(sentence)) or (elsewhere and not re.search(_FILM, sentence, re.I))
        if not elsewhere and (own := _own_words(sentence)) and own not in kept:
            kept.append(own)
    return " ".join(kept[:LONGEST]) if any(map(_is_told, kept[:LONGEST])) else ""


def _own_words(sentence: str) -> str:
    """A sentence without its lead, its diagnosis and its look back; empty where it does not describe the film."""
    body = _LEAD.sub("", _HEADING.sub("", sentence).strip())
    body = _SINCE.sub("", _TAIL.sub("", body)).strip(" ,.;")
    if not _DESCRIBES.search(body) or _OTHER.search(body):
        return ""
    return f"{body[0].upper()}{body[1:]}."


def _is_told(sentence: str) -> bool:
    """Whether a sentence tells of a finding, or that there is none."""
    return bool(_IS_CLEAR.search(sentence) or _TELLS.search(_DENIAL.split(sentence)[0]))
