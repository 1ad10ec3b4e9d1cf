"""A little corpus of made-up reports for the tests of metrics. Written for this project; no data set's text."""

REFERENCES = [
    ["the heart is normal in size . the lungs are clear . no pleural effusion or pneumothorax ."],
    ["mild enlargement of the heart . small left pleural effusion .", "the heart is mildly enlarged ."],
    ["the lungs are clear ."],
    ["patchy opacity in the right lower lobe . no pneumothorax . the heart is normal in size ."],
    ["no acute abnormality", "the lungs are clear . the heart is normal in size .", "normal chest ."],
    ["a catheter ends in the superior vena cava . a catheter ends in the superior vena cava ."],
    ["degenerative changes of the spine , otherwise unremarkable 35 cm"],
    ["ok"],
]
"""Eight studies, two of them with several references, one of a single word."""

_FIRST = [texts[0] for texts in REFERENCES]
HYPOTHESES = {
    "constant": ["the heart is normal in size . the lungs are clear ."] * 8,
    "rotated": [*_FIRST[1:], _FIRST[0]],
    "reversed": [" ".join(reversed(text.split())) for text in _FIRST],
    "identical": _FIRST,
    "empty": [""] * 8,
    "some_empty": [text if i % 3 else "" for i, text in enumerate(_FIRST)],
    "unicode": [text.replace("heart", "cœur ≥ 5\u00a0cm").replace("lungs", "肺") for text in _FIRST],
    "two_spaces": [text.replace(" ", "  ") for text in _FIRST],
    "repeated": [f"{text} {text} the the the the" for text in _FIRST],
}
