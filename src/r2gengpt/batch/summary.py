"""The summary page of a bulk run: totals, failures, throughput, in one small HTML file. No report text."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from r2gengpt.batch.folders import LeftOut
from r2gengpt.batch.listing import by_kind
from r2gengpt.batch.plan import LEFT_OUT
from r2gengpt.batch.progress import Progress, clock_time
from r2gengpt.batch.shards import MANIFEST, Totals, write_whole
from r2gengpt.text.notice import NOTICE
from r2gengpt.text.written import json_text

SUMMARY = "summary.html"
STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem .35rem 0;
border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; } th { font-weight: 600; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
table + table, .bar + table { margin-top: 1rem; } .given td:first-child { width: 14rem; }
.bar { display: flex; height: .8rem; border-radius: .4rem; overflow: hidden; background: #c0392b; }
.bar > span { background: #2e7d5b; }
.note { border-left: .25rem solid #b7791f; padding-left: .8rem; }
"""


def table(rows: list[tuple[str, str]], heads: tuple[str, str]) -> str:
    """A table of two columns, the second one of numbers."""
    body = "".join(f"<tr><td>{escape(name)}</td><td class=n>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><thead><tr><th>{heads[0]}</th><th class=n>{heads[1]}</th></tr></thead><tbody>{body}</tbody></table>"


def failures(totals: Totals) -> str:
    """Failures by kind, and the first of them by id."""
    if not totals.failed:
        return "<p>None.</p>"
    kinds = table([(kind, str(count)) for kind, count in sorted(totals.failed.items())], ("kind", "studies"))
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in totals.examples)
    shown, all_of_them = len(totals.examples), sum(totals.failed.values())
    first = f"<p>The first {shown} of {all_of_them}:</p>" if shown < all_of_them else ""
    return f"{kinds}{first}<table><thead><tr><th>study</th><th>why</th></tr></thead><tbody>{lines}</tbody></table>"


def left_out(others: Sequence[LeftOut]) -> str:
    """How many files are part of no study, by kind, and the first of each."""
    if not others:
        return ""
    return f"<h2>Left out</h2><p>Part of no study, and all named in {LEFT_OUT}: {escape(by_kind(others))}.</p>"


def summary_page(totals: Totals, progress: Progress, manifest: dict[str, object], others: Sequence[LeftOut]) -> str:
    """The page; `others` is what of the input was left out."""
    failed = sum(totals.failed.values())
    share = 100 * (totals.rows - failed) / totals.rows
    shards = manifest["shards"]
    counts = [
        ("studies", f"{totals.rows}"),
        ("with a report", f"{totals.rows - failed}"),
        ("failed", f"{failed}"),
        ("shards", f"{len(shards) if isinstance(shards, list) else 0}"),
    ]
    speed = [
        ("studies written by this start", f"{progress.written}"),
        ("studies that earlier starts had written", f"{progress.before}"),
        ("time, with start of Ray and of the models", clock_time(progress.seconds)),
        ("studies a second", f"{progress.rate:.2f}"),
    ]
    settings = manifest["settings"]
    assert isinstance(settings, dict)
    given = [(name, json_text(value)) for name, value in settings.items()]
    settled = table(given, ("setting", "value")).replace(" class=n", "")
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>r2gengpt batch: {totals.rows} studies</title><style>{STYLE}</style>
<h1>{totals.rows} studies, {failed} failed</h1><p class=note>{escape(NOTICE)}</p>
<div class=bar role=img aria-label="{share:.1f} % with a report"><span style="width:{share:.2f}%"></span></div>
{table(counts, ("what", "number"))}<h2>Failures</h2>{failures(totals)}{left_out(others)}
<h2>Throughput</h2>{table(speed, ("what", "value"))}<h2>Settings</h2><div class=given>{settled}</div>
</html>
"""


def write_summary(output: Path, totals: Totals, progress: Progress) -> None:
    """Write summary.html beside the manifest."""
    manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    path, others = output / LEFT_OUT, list[LeftOut]()
    if path.exists():
        others += [LeftOut(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    write_whole(output / SUMMARY, [summary_page(totals, progress, manifest, others).encode()])
