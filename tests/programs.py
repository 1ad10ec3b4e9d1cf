"""Where programs lie that tests start by name. A package of ours installs scripts with the names of dcmtk's."""

import os
import shutil
import sysconfig
from pathlib import Path


def program(name: str) -> str | None:
    """The first program of this name on PATH outside Python's environments; None without one."""
    ours = Path(sysconfig.get_path("scripts")).resolve()
    found = [Path(place) for place in os.get_exec_path()]
    places = [str(p) for p in found if p.resolve() != ours and not (p.parent / "pyvenv.cfg").exists()]
    return shutil.which(name, path=os.pathsep.join(places)) if places else None


STORESCU, STORESCP = program("storescu") or "", program("storescp") or ""
"""Of dcmtk; empty where it is not installed."""
