"""Check that a wheel contains what it should, and nothing else.

    python .ci/check_wheel.py dist/*.whl

Every module of the package, `py.typed`, the licence and complete metadata have to be there; tests,
examples and documentation must not.
"""

import argparse
import sys
import zipfile
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pymc_multimodal"
# Fields of the metadata that have to be filled.
FIELDS = (
    "Name", "Version", "Summary", "License-Expression", "Requires-Python", "Keywords", "Author",
    "Project-URL", "Requires-Dist", "Classifier", "Description-Content-Type",
)  # fmt: skip


def faults_of(path: Path) -> list[str]:
    """Return what is wrong with a wheel, in lines."""
    wanted = {
        str(p.relative_to(ROOT))
        for p in (ROOT / PACKAGE).rglob("*")
        if p.suffix in (".py", ".typed")
    }
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        [metadata] = [n for n in names if n.endswith(".dist-info/METADATA")]
        fields = message_from_string(wheel.read(metadata).decode())
    faults = [f"{name} is missing" for name in sorted(wanted - names)]
    faults += [
        f"{name} does not belong there"
        for name in sorted(names - wanted)
        if ".dist-info/" not in name
    ]
    if f"{PACKAGE}/py.typed" not in names:
        faults.append("py.typed is missing: type checkers would not see the types")
    if not any(n.endswith("licenses/LICENSE") for n in names):
        faults.append("the licence is missing")
    faults += [f"the metadata have no {field}" for field in FIELDS if not fields.get(field)]
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    faults = [
        f"{path.name}: {fault}" for path in parser.parse_args().wheels for fault in faults_of(path)
    ]
    print(*(faults or ["The wheel is complete."]), sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
