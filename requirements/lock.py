"""Writes the hashes of all that is pinned, for pip's --require-hashes (`make lock`). Installs nothing.

locked.txt: constraints.txt, which is the whole closure. cuda.txt: what PyTorch's CUDA builds need besides it.
edge.txt: of these the ones that edge.in names, for a machine without PyTorch. full.txt: the ones of full.in.
release.txt: the tools of release.in and what they need. A line holds the hash of every file of that version.
"""

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
PINS = HERE.parent / "constraints.txt"
CPU_BUILDS = {"torch": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}
"""Files of the same version that are not on the index: PyTorch's CPU build (CPython 3.11, Linux, x86-64)."""
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_28"


def compiled(source: Path, *words: str) -> dict[str, str]:
    """Name → its line with hashes, by uv."""
    command = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate",
               "--no-emit-index-url", "--python-version", PYTHON, "--python-platform", PLATFORM, *words,
               str(source)]  # fmt: skip
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    blocks = re.split(r"\n(?=\S)", text.strip())
    return {re.split(r"==", block, maxsplit=1)[0].lower(): block for block in blocks if "==" in block}


def with_builds(name: str, block: str) -> str:
    """The line with the hashes of files that are not on the index."""
    more = "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS.get(name, ()))
    return f"{block}{more}"


def write(path: Path, blocks: dict[str, str]) -> None:
    """Write the lines in the order of their names."""
    path.write_text("\n".join(with_builds(name, blocks[name]) for name in sorted(blocks)) + "\n", encoding="utf-8")


def named(source: Path, locked: dict[str, str]) -> dict[str, str]:
    """The lines of the packages that a file names, which must be all that these need."""
    lines = source.read_text(encoding="utf-8").splitlines()
    names = [re.sub(r"[-_.]+", "-", line).lower() for line in lines if line and not line.startswith("#")]
    return {name: locked[name] for name in names}


def main() -> None:
    """Write all files."""
    locked = compiled(PINS, "--no-deps")
    write(HERE / "locked.txt", locked)
    torch = HERE / "torch.in"
    torch.write_text(next(line for line in PINS.read_text().splitlines() if line.startswith("torch==")) + "\n")
    try:
        cuda = compiled(torch, "--constraint", str(PINS))
    finally:
        torch.unlink()
    write(HERE / "cuda.txt", {name: block for name, block in cuda.items() if name not in locked})
    for name in ("edge", "full"):
        write(HERE / f"{name}.txt", named(HERE / f"{name}.in", locked))
    write(HERE / "release.txt", compiled(HERE / "release.in"))


if __name__ == "__main__":
    main()
