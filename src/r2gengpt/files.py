"""Files and directories that appear whole or not at all. Nothing about their contents."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from r2gengpt.errors import InputError
from r2gengpt.text.written import shown


def cache_dir() -> Path:
    """`$R2GENGPT_CACHE`, else `$XDG_CACHE_HOME/r2gengpt`, else `~/.cache/r2gengpt`; absolute, perhaps not there yet."""
    own = os.environ.get("R2GENGPT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base).expanduser() / "r2gengpt").absolute()


def check_writable(directory: Path, field: str) -> None:
    """Refuse a directory that can't be made or written to, before hours of work end in it. Leaves nothing behind.

    Raises:
        InputError: it or what is above it is a file or a link to nothing, may not be written to, or a name is too long.
    """
    _check_makeable(directory, directory, field)


def named_directory(text: str, field: str) -> Path:
    """The directory that a flag names; an empty text, as of a variable that is not set, is not the current one.

    Raises:
        InputError: the text is empty.
    """
    if not text.strip():
        raise InputError(f"`{field}` is empty: must name a directory")
    return Path(text)


def check_model_directory(directory: Path, field: str) -> None:
    """Refuse a directory that a model can't be written to: as `check_writable`, and weights need names in UTF-8.

    Raises:
        InputError: as `check_writable`, or the name is not UTF-8.
    """
    name = str(directory.absolute())
    if shown(name) != name:
        raise InputError("is not UTF-8, which libraries that write weights need", field=field, value=directory)
    check_writable(directory, field)


def check_new_model(directory: Path) -> None:
    """Refuse an `output` that a model is to be written to and that is there, or can't be made.

    Raises:
        InputError: as `check_model_directory`, or something is there.
    """
    if os.path.lexists(directory):
        raise InputError("exists already", field="output", value=directory)
    check_model_directory(directory, "output")


def check_writable_file(path: Path, field: str) -> None:
    """Refuse a file that can't be written, before the work whose result it is to hold. Leaves nothing behind.

    Raises:
        InputError: as `check_writable` for its directory and its name, or it is a directory, a pipe or a device.
    """
    if os.path.isdir(path):  # noqa: PTH112 (Path's own raise where a name is too long)
        raise InputError("is a directory, must be a file", field=field, value=path)
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise InputError("is no regular file", field=field, value=path)
    _check_makeable(path, path.parent, field)


def check_file(path: str, field: str, value: str | None = None) -> None:
    """Refuse what is no file; `value` is how it was named (None: as it is).

    Raises:
        InputError: nothing is there, or it is a directory, a pipe or a device.
    """
    if not os.path.isfile(path):  # noqa: PTH113
        there = "is a directory, must be a file" if os.path.isdir(path) else "is no regular file"  # noqa: PTH112
        words = there if os.path.exists(path) else "no such file"  # noqa: PTH110
        raise InputError(words, field=field, value=path if value is None else value)


def check_no_input(output: Path, inputs: Iterable[tuple[str, Path]]) -> None:
    """Refuse an `output` that is one of the inputs too, which writing would lose.

    Raises:
        InputError: so it is; `inputs` are settings and what each names.
    """
    for name, path in inputs:
        if os.path.exists(output) and os.path.exists(path) and os.path.samefile(output, path):  # noqa: PTH110, PTH121
            raise InputError(f"is what `{name}` names: it would be written over", field="output", value=output)


def _check_makeable(path: Path, directory: Path, field: str) -> None:
    """Refuse a path that cannot be made in `directory`, which is the path itself or what it lies in."""
    try:
        there = next(parent for parent in (directory, *directory.absolute().parents) if os.path.lexists(parent))
        if not os.path.isdir(there):  # noqa: PTH112
            what = "no directory" if os.path.exists(there) else "a link that leads nowhere"  # noqa: PTH110
            raise InputError(f"{there} is {what}", field=field, value=path)
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"{there} may not be written to", field=field, value=path)
        for name in path.absolute().parts[len(there.absolute().parts) :]:
            _check_name(there, name)
        _check_name(path.absolute().parent, path.name)
        with tempfile.TemporaryDirectory(prefix=".", dir=there):  # /proc and the like refuse what access() allows
            pass
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{getattr(error, 'strerror', None) or error}", field=field, value=path) from None


def _check_name(directory: Path, name: str) -> None:
    """Ask the system whether it takes so long a name, as it is while a file is written (`whole_file`)."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(directory / f".{name}.{'x' * 8}")


def open_regular(path: Path) -> BinaryIO:
    """A regular file opened for reading. What would wait or act when it is opened (a pipe, a device) is not opened.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it has become another in between
        file.close()
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return file


def _beside(path: Path) -> Path:
    """A name that nothing has yet, in the directory of a path."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends well, removed when it does not.

    Others may read the file as far as they might read the one before it, or else as the umask has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        mode = stat.S_IMODE((path if path.is_file() else temporary).stat().st_mode)
        temporary.chmod(0o600)  # nobody reads half of it
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes, field: str | None = None) -> None:
    """Write a file, whole or not at all; a text in UTF-8, its lines ending as they are.

    Args:
        path: where to; its directory is made.
        content: of the file.
        field: the setting that names the file or its directory.

    Raises:
        InputError: it cannot be written, and a setting names it.
        OSError: it cannot be written otherwise.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        if field is None:
            raise
        raise InputError(f"{error.strerror or error}", field=field, value=path) from None


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path`, put in its place when the block ends well, removed when it does not.

    Others may read what is in it as the umask has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.chmod(0o700)  # nobody reads half of it
        yield temporary
        temporary.chmod(mode)
        for file in temporary.rglob("*"):
            file.chmod(mode if file.is_dir() else mode & 0o666)
        put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file or directory onto another one; what a kill leaves of a directory `recover_directory` mends."""
    old = path.with_name(f".{path.name}.old")
    if path.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    temporary.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or directory, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def recover_directory(path: Path) -> None:
    """Undo a replacement that was killed between its two renames, and sweep away what killed writers left."""
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)
    if path.parent.is_dir():
        for left in path.parent.glob(f".{path.name}.*"):
            remove(left)


def check_readable(path: Path, source: str) -> None:
    """Refuse a file that cannot be opened; `source` is what errors call it.

    Raises:
        InputError: so it is.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from None


def check_part(name: str, field: str) -> None:
    """Refuse a path that holds no model's part; what may be a hub's name passes.

    Raises:
        InputError: no such directory, or none of Hugging Face's.
    """
    path = Path(name)
    if not path.exists() and (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1):
        raise InputError("no such directory", field=field, value=name)
    if path.exists() and not (path / "config.json").is_file():
        raise InputError("no config.json there, so no Hugging Face model directory", field=field, value=name)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a file's bytes, or the names in a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
