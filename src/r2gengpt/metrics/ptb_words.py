"""The words that Penn Treebank tokenization treats one by one: abbreviations, contractions, names of files.

Each was found by trying: CoreNLP 3.4.1 was given every combination of up to four letters and 500,000 longer words, in
lower case, capitalised and in capitals, and its output read.
"""


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


ENDING = _split(
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga"
    " inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep"
    " sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo ed.d ph.d"
)
"""Abbreviations that keep their period and may end a sentence."""
ENDING_CAPITALISED = _split("ark az del ill la mass miss ore pa tex wash")
"""As `ENDING`, if they begin with a capital: words without."""
LEADING = _split(
    "adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov govs"
    " hon insp invt jos lieut lt maj mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen sens"
    " sfc sgt spc st ste supt treas vs wm"
)
"""Abbreviations that keep their period and stand before another word."""
UNCAPITALISED = _split("pte ptes pty ptys ppte ppty mfg mtg")
"""Abbreviations that keep their period, but not all in capitals."""
NUMBERING = _split("art ca fig figs no nos op pp prop")
"""Abbreviations that keep their period before a number: words elsewhere."""
STARTERS = _split(
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One"
    " Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
"""Words that begin a sentence: a single letter before one is no initial."""
PARTED = {"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3}
"""Word → the letters of the first of the two words that it stands for."""
SUFFIXES = _split(
    "bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov pdf php pl png ppt ps py sql tar"
    " txt wav x xml zip"
)
"""What a file's name ends with, after a period."""
