"""`python -m agebench`, which is also what `torchrun -m agebench` starts."""

import os
import sys


def leave_current_folder(package: str) -> None:
    """Take the current folder off the path where `python -m` put it.

    Before anything else is imported: it may hold a file that is called as a library is.

    Args:
        package: the folder of the package that runs; where it was found in the current folder
            itself, as in a checkout, that stays.
    """
    if sys.flags.safe_path or not sys.path:
        return
    first = os.path.realpath(sys.path[0] or ".")
    if first == os.path.realpath(".") and first != os.path.dirname(os.path.realpath(package)):  # noqa: PTH120 - pathlib could be one of those files
        del sys.path[0]


if __name__ == "__main__":
    leave_current_folder(os.path.dirname(__file__))  # noqa: PTH120 - as above
    from agebench.cli import main

    main()
