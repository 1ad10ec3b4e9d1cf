"""Counts the lines that `--protocol ptb` and coco-caption's Java tokenizer split differently.

Needs Java and pycocoevalcap.

    python benchmarks/ptb.py --seed 4 --lines 40000 --texts annotation.json
    python benchmarks/ptb.py --lines 0 --all_forms True

Prints JSON: the versions, and for each corpus its lines and those that differ. The corpora are the reports of
annotation files, these with misprints, and lines drawn from pieces of reports, from characters, from signs, numbers,
abbreviations, contractions and addresses, apart or glued, and pieces of all kinds with one character changed. With
`--all_forms True` also two million lines without chance (five minutes): all short words of a kind, as named below.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import random
import string
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from r2gengpt import __version__
from r2gengpt.metrics.ptb.tokenizer import ptb

PUNCTUATION = frozenset([*"'`.?!,:-;", "''", "``", "--", "...", "-LRB-", "-RRB-", "-LCB-", "-RCB-"])
"""As pycocoevalcap 1.2 has it; its tokenizer module runs Java on a file in its own directory, so it is not called."""
REPORT_PIECES = (
    "the heart is normal in size . Lungs clear, (stable) XXXX x-ray T1/T2 T10-T12 3.5 cm 2mm 1/2 vs. Dr. Smith's isn't "
    "L. R. The a.m. U.S. approx. 10/12/2011 12:30 5-10 [see] \"quote\" 'x' ... -- - / & < > % # 7th and/or <unk> it's "
    "e.g. i.e., etc. No. 5 no. fig. 3a 1. 2) : ; ? ! = + * ~ _ ___ 1,000 37.5°C ≥ 5 × µm café – — … “a” ’s ‘b’"
)
REPORTS = REPORT_PIECES.split()
CHARACTERS = [
    *"aAbBxyT0159.,:;-/'\"()[]<>&%$#@*_+=~!? ",
    *("ab", "The", "no.", "12", "'s", "n't", "é", "°", "–", "’", "a.", "XX"),
]
PRINTED: list[str] = [*map(chr, range(32, 127)), *"é°–’‘“”…½²\u00a0\u00ad"]
POOLS = [
    pool.split()
    for pool in (
        "dr. mr. prof. st. vs. e.g. i.e. etc. approx. fig. no. ca. cf. al. jan. sept. mon. inc. "
        "ltd. jr. ph.d. m.d. u.s. "
        "a.m. p.m. dept. est. min. max. wt. ht. ant. post. rt. bilat. vol. pp. p. eds. rev. gen. calif. R.U.L. PA. AP.",
        "isn't don't won't can't cannot he's she'll I'm we've they're I'd 'tis 'twas gonna gotta gimme y'all ma'am "
        "o'clock rock'n'roll d'you c'mon 'em patients' X-ray's DON'T hasn’t patient’s ‘tis '90s 'n' l'hôpital d'Este "
        "n't 's 'll 'd &apos;s",
        "1 12 3.5 .5 1,000 1,234,567.89 1/2 3/4 1-1/2 ½ 1½ 10/12/2011 2011-10-12 12.10.2011 12:30:45 9:05am 5-10 5–10 "
        "10% -3 +4 ±2 1e5 2nd T10 L4-L5 T1-T2 5mm 3x4 3×4 37.5° $5.00 US$20 £3.50 €10 5¢ #3 No.5 1. 2) (3) 1990s 90's "
        "555-1234 (555)123-4567 +1 1-800-555-1234 555.123.4567 10^3 <5 >=5 ~5 1:1000 v1.2 III. H2O",
        ". , : ; ! ? - / \\ ' \" ( ) [ ] { } < > & % $ # @ * _ + = ~ ^ | ` ... .... -- --- ---- `` "
        "'' !! ?! .. … – — “ ” "
        "‘ ’ « » • ° ± × µ ≥ → ™ £ € ¢ ½ ² &amp; &lt; &quot; &nbsp; &mdash; &#39; <unk> <br> </p> "
        "<> -LRB- [** **] ___ :) "
        ":-) :D <3 ^_^ ** // \u00ad \u200b \ufeff \ufffd",
        "http://a.b/c https://www.nih.gov/x?y=1&z=2 www.example.com example.org/path a@b.co "
        "first.last@x-y.org <a@b.com> "
        "ftp://x.y/z user@host @user #tag #12 foo.bar foo.com. C:\\x file.txt a.b.c AT&T R&D a&b and/or he/she w/o n/a",
        "the heart is in size The Lungs clear pneumothorax X-ray x-ray well-defined non-small St "
        "café Müller ÉTÉ œsophagus "
        "Ⅳ α-error β 中文 ひらがな カタカナ 한국 Привет мир عربي हिन्दी ไทย XXXX I a A s t t.i.d p.r.n.",
    )
]


def drawn_reports(lines: int, seed: int) -> list[str]:
    """Pieces of reports, apart, some before a mark."""
    rng = random.Random(seed)
    marks = ["", "", "", ".", ",", ";", ")", ":"]
    return [
        " ".join(["so", *(rng.choice(REPORTS) + rng.choice(marks) for _ in range(rng.randrange(3, 12))), "end"])
        for _ in range(lines)
    ]


def drawn_characters(lines: int, seed: int) -> list[str]:
    """Two to eight characters or short pieces without blanks between them."""
    rng = random.Random(seed)
    return ["so " + "".join(rng.choices(CHARACTERS, k=rng.randrange(2, 9))) + " end" for _ in range(lines)]


def drawn_mixtures(lines: int, seed: int) -> list[str]:
    """Pieces of all pools, most apart, some glued, some in capitals."""
    rng = random.Random(seed)
    texts = []
    for _ in range(lines):
        text = "so"
        for _ in range(rng.randrange(2, 9)):
            piece = rng.choice(rng.choice(POOLS))
            piece = rng.choice([piece.upper(), piece.capitalize()]) if rng.random() < 0.15 else piece
            text += (
                (" " if rng.random() < 0.75 else "") + piece + (rng.choice(".,;:)'\"?-") if rng.random() < 0.15 else "")
            )
        texts.append(text + " end")
    return texts


def drawn_glued(lines: int, seed: int) -> list[str]:
    """One to three pieces of all pools without blanks between them."""
    rng = random.Random(seed)
    glued = ("".join(rng.choice(rng.choice(POOLS)) for _ in range(rng.randrange(1, 4))) for _ in range(lines))
    return [f"so {text} end" for text in glued]


def drawn_scripts(lines: int, seed: int) -> list[str]:
    """One to five characters of any script below U+3000, pieces of all pools and joining marks, without blanks."""
    rng = random.Random(seed)
    scripts = [mark for mark in map(chr, range(0xA0, 0x3000)) if mark not in "\u2028\u2029"]
    pieces = [piece for pool in POOLS for piece in pool]
    joints = ["\u00a0", " ", "\u00ad", "'", "/", "-", "."]
    texts = (
        "".join(rng.choice(rng.choice([scripts, pieces, joints])) for _ in range(rng.randrange(1, 6)))
        for _ in range(lines)
    )
    return [f"so {text} end" for text in texts]


def changed(text: str, rng: random.Random) -> str:
    """The text with one character put in, replaced or taken away."""
    place = rng.randrange(len(text) + 1)
    put: str = rng.choice([*PRINTED, ""])
    return text[:place] + put + text[place + rng.randrange(2) :]


def drawn_changes(lines: int, seed: int) -> list[str]:
    """A piece of any pool, or two with a blank between them, with one character changed."""
    rng = random.Random(seed)
    pieces = [piece for pool in POOLS for piece in pool]
    return [f"so {changed(' '.join(rng.choices(pieces, k=rng.choice([1, 1, 2]))), rng)} end" for _ in range(lines)]


def drawn_misprints(texts: Sequence[str], lines: int, seed: int) -> list[str]:
    """Texts with one to five characters changed."""
    rng = random.Random(seed)
    found = []
    for text in rng.choices(texts, k=lines) if texts else []:
        for _ in range(rng.randrange(1, 6)):
            text = changed(text, rng)
        found.append(text)
    return found


def letters(least: int, most: int) -> Iterator[str]:
    """All words of so many small letters."""
    for length in range(least, most + 1):
        yield from map("".join, product(string.ascii_lowercase, repeat=length))


def all_signs() -> Iterator[str]:
    """All three of ASCII's signs, a blank, two digits and four letters."""
    return map("".join, product([*string.punctuation, *" 01aDPo"], repeat=3))


def all_elisions() -> Iterator[str]:
    """Up to two letters on each side of an apostrophe, then one and three, then three and one."""
    for before, after in ((2, 2), (1, 3), (3, 1)):
        sides = product(letters(0 if after == 2 else before, before), letters(0 if before == 2 else after, after))
        yield from map("'".join, sides)


def all_entities() -> Iterator[str]:
    """Up to four letters between an ampersand and a semicolon."""
    return (f"&{word};" for word in letters(1, 4))


def all_suffixes() -> Iterator[str]:
    """Up to four letters after a full stop."""
    return (f"ab.{word}" for word in letters(1, 4))


def all_phones() -> Iterator[str]:
    """Groups of digits as in phone numbers, in lengths that may be one and that may not."""
    groups = ["1" * length for length in range(1, 7)]
    blanks = ["-", " ", "\u00a0"]
    starts = product(["", "+", "++", "(", "+("], groups[:5], [*blanks, ".", ")", ") ", ")-"], groups, blanks)
    ends = ["", "-1", " 1234", "-12345", "-123 456"]
    return (start + group + end for start in map("".join, starts) for group in ("", *groups) for end in ends)


def all_addresses() -> Iterator[str]:
    """Sites, mail and paths, each with two ends."""
    sites = "a ab.c www.a www.a.b a@b a.b@c.d http://a https://a.b <a@b.c> a_b.com a.com a.edu a.org/ a.net/x a.gov"
    ends = "/ /a /a. /a,b /(a) ?a=b :80 /a: . .. , ) ! - 's >"
    either = ["", "/a b", *ends.split()]
    return map("".join, product([*sites.split(), "ftp://a.b"], either, either))


def java_words(texts: Sequence[str]) -> list[str]:
    """What coco-caption makes of each text, without a look at the next: a line of one word stands between."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None:
        raise SystemExit("needs pycocoevalcap: pip install '.[metrics]' in the clone")
    jar = Path(*(package.submodule_search_locations or ()), "tokenizer", "stanford-corenlp-3.4.1.jar")
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    given = "\n".join(f"{text}\nx" for text in texts)
    done = subprocess.run(command, input=given.encode(), capture_output=True, check=True)
    lines = done.stdout.decode().split("\n")[: 2 * len(texts) : 2]
    assert len(lines) == len(texts)
    return [" ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATION) for line in lines]


def read_texts(paths: Sequence[str]) -> list[str]:
    """The different reports of annotation files, each on one line."""
    splits = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    reports = [study["report"] for split in splits for studies in split.values() for study in studies]
    return list(dict.fromkeys(" ".join(report.split("\n")) for report in reports))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--texts", nargs="*", default=[])
    parser.add_argument("--all_forms", choices=["True", "False"], default="False")
    args = parser.parse_args()
    texts = read_texts(args.texts)
    corpora = {draw.__name__: draw(args.lines, args.seed) for draw in DRAWN}
    corpora |= {"reports": texts, "misprints": drawn_misprints(texts, args.lines, args.seed)}
    if args.all_forms == "True":
        corpora |= {forms.__name__: list(dict.fromkeys(f"so {form} end" for form in forms())) for forms in FORMS}
    rows = {}
    for name, texts in corpora.items():
        found = [words for start in range(0, len(texts), PART) for words in java_words(texts[start : start + PART])]
        rows[name] = {"lines": len(texts), "differ": sum(ptb(a) != b for a, b in zip(texts, found, strict=True))}
    versions = {"r2gengpt": __version__, "pycocoevalcap": importlib.metadata.version("pycocoevalcap")}
    json.dump({"versions": versions, "seed": args.seed, "corpora": rows}, sys.stdout, indent=1)
    print()


DRAWN = (drawn_reports, drawn_characters, drawn_mixtures, drawn_glued, drawn_changes, drawn_scripts)
FORMS = (all_signs, all_elisions, all_entities, all_suffixes, all_phones, all_addresses)
PART = 200_000
"""Lines that Java gets at once."""

if __name__ == "__main__":
    main()
