"""`r2gengpt keys`: API keys with roles for `serve`, made, listed and removed. The file's form is `serving.keys`'s."""

from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.errors import InputError
from r2gengpt.serving.keys import ROLES, add_key, read_key_file, remove_key


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt keys",
        "API keys for `serve`: add prints a new key, once; its file has the hash alone. list, remove. A server reads "
        "the file again when it changes.",
        example="r2gengpt keys add ward-7 --roles report --api_keys keys.json",
    )
    made.add_argument("action", choices=["add", "list", "remove"], help="what to do")
    made.add_argument("name", nargs="?", metavar="NAME", help="add, remove: whose key it is, as logs call it")
    made.add_argument("--api_keys", "--api-keys", metavar="FILE", help="the file; add makes a new one")
    made.add_argument("--roles", nargs="+", choices=ROLES, metavar="ROLE",
                      help="add: read (what is there), report (ask for drafts), admin (all)")  # fmt: skip
    return made


def main(argv: list[str]) -> None:
    """Parse, do it; prints the new key, or a line a key."""
    space = bridge.parse(parser(), argv)
    if space.api_keys is None:
        raise InputError("`api_keys` FILE is missing: it holds the keys")
    path = Path(space.api_keys)
    if (space.name is None) != (space.action == "list"):
        raise InputError("list takes no name" if space.action == "list" else f"{space.action}: whose key? give a NAME")
    if (space.roles is None) != (space.action != "add"):
        raise InputError("`roles` belong to add, which needs them")
    if space.action == "add":
        print(add_key(path, space.name, space.roles))
    elif space.action == "remove":
        remove_key(path, space.name)
    else:
        for one in read_key_file(path):
            print(one.name, ",".join(one.roles), one.created, sep="\t")
