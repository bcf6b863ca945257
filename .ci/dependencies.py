"""Print the dependencies of the package, one a line, without some of them.

    python .ci/dependencies.py --without torch zuko
    python .ci/dependencies.py --without torch zuko --extra docs

`make demo` and Read the Docs install these and then the package itself: fits without torch train no
network, and on Linux torch brings gigabytes of libraries for GPUs with it.
"""

import argparse
import re
import tomllib
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--extra", help="an extra, whose packages are added")
    given = parser.parse_args()
    left_out = {name.lower() for name in given.without}
    path = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    more = project["optional-dependencies"][given.extra] if given.extra else []
    for line in [*project["dependencies"], *more]:
        if re.match(r"[\w.-]+", line)[0].lower() not in left_out:
            print(line)


if __name__ == "__main__":
    main()
