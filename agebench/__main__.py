"""`python -m agebench`; `torchrun -m agebench` starts it too."""

import os
import sys


def leave_current_folder(package: str) -> None:
    """Remove the current folder from `sys.path` if `python -m` added it.

    This must run before all other imports: the folder may contain a file named like a library.

    Args:
        package: folder of the running package.  If it is in the current folder, as in a checkout,
            that folder stays on the path.
    """
    if sys.flags.safe_path or not sys.path:
        return
    try:
        here = os.path.realpath(".")
    except OSError:  # it was removed: no file of it can be imported
        return
    first = os.path.realpath(sys.path[0] or ".")
    if first == here and first != os.path.dirname(os.path.realpath(package)):  # noqa: PTH120 - pathlib could be one of those files
        del sys.path[0]


if __name__ == "__main__":
    leave_current_folder(os.path.dirname(__file__))  # noqa: PTH120 - as above
    sys.argv[0] = "agebench"  # results hold the command, to be given again
    from agebench.cli import main

    main()
