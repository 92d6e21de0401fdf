"""Write a random caffemodel in the layout of the published age network.

python benchmarks/make_random_age_net.py random_age_net.caffemodel --seed 0
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from agebench.errors import AgebenchError
from agebench.export.random_age_net import random_age_net


def main(arguments: list[str] | None = None) -> int:
    """Write the file, print its hash; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="the .caffemodel to write")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal bytes")
    parser.add_argument("--encoding", choices=("v1", "v2"), default="v1", help="layer encoding")
    parser.add_argument("--micro", action="store_true", help="few channels: about 60 kB, not 46 MB")
    options = parser.parse_args(arguments)
    try:
        random_age_net(
            options.out, seed=options.seed, micro=options.micro, encoding=options.encoding
        )
    except AgebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    digest = hashlib.sha256(options.out.read_bytes()).hexdigest()
    print(f"{digest}  {options.out}")
    print("These weights are random: the file is for tests and is not an age estimator.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
