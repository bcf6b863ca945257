"""Print the dependencies of the package, one a line, without some of them.

    python .ci/dependencies.py --without torch zuko

`make demo` installs these and then the package itself: its example trains no network, and on Linux
torch brings gigabytes of libraries for GPUs with it.
"""

import argparse
import re
import tomllib
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without", nargs="*", default=[])
    left_out = {name.lower() for name in parser.parse_args().without}
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    for line in tomllib.loads(project.read_text())["project"]["dependencies"]:
        if re.match(r"[\w.-]+", line)[0].lower() not in left_out:
            print(line)


if __name__ == "__main__":
    main()
