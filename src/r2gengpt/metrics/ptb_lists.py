"""Words and marks that the Penn Treebank tokenizer treats in a way of their own, found by trying. No patterns."""

from types import MappingProxyType

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What coco-caption removes. Its list has the brackets too, as "-LRB-", but words come in lower case."""

_ABBREVIATIONS = """
adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bhd bldg blvd brig bros calif capt cf cie cmdr
co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov
govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich minn mlle mme
mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys
pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va
vs vt wed wis wisc wm wyo
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""Words that keep their full stop."""
NOT_IN_CAPITALS = frozenset(["MFG", "MTG", "PPTE", "PPTY", "PTE", "PTES", "PTY", "PTYS"])
NAMES = ("Ark", "Az", "Del", "Ill", "La", "Mass", "Miss", "Ore", "Pa", "Tex", "Wash")
"""Words that keep it where they begin with a capital or are all capitals."""
BEFORE_NUMBERS = ("art", "ca", "fig", "figs", "no", "nos", "op", "pp", "prop")
"""Words that keep it where a number follows."""
_STARTERS = """
A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One
Other Our She Since So Some Such That The Then There These They This We What When While Yet You
"""
STARTERS = tuple(_STARTERS.split())
"""Words that begin a sentence: a single letter before them does not keep its full stop."""
_FILES = """
bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar
txt wav x xml zip
"""
FILES = tuple(_FILES.split())
"""Endings of file names."""
_ELISIONS = """
cap'n c'est c'mon cont'd. dunkin' e'er ev'ry li'l ma'am nat'l ne'er nor'easter ol' o'o s'mores somethin'
"""
ELISIONS = tuple(_ELISIONS.replace(".", "\\.").split())
"""Words with an apostrophe that are not taken apart."""

CONTRACTIONS = MappingProxyType({"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3})
"""Words that become two, and the length of the first."""

SPELLINGS = MappingProxyType(
    {
        **dict.fromkeys(("\u2019", "\u203a", "\x92", "&apos;"), "'"),
        **dict.fromkeys(("\u2018", "\u201b", "\u2039", "\x91"), "`"),
        **dict.fromkeys(("\u201c", "\u00ab", "\x93"), "``"),
        **dict.fromkeys(('"', "\u201d", "\u00bb", "\x94", "&quot;"), "''"),
        **dict.fromkeys(("\u2013", "\u2014", "\u2015", "\x96", "\x97", "&mdash;", "&ndash;", "&MD;"), "--"),
        **dict.fromkeys(("\u2026", "\x85"), "..."),
        **dict.fromkeys(("\u20ac", "\u00a4", "\u20a0", "\x80"), "$"),
        **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
        **{"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"},
        **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "\u00a3": "#", "\u00a2": "cents", "\u00ad": "-"},
    }
)
"""How a token of its own is written."""
