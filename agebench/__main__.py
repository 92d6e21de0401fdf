"""`python -m agebench`, which is also what `torchrun -m agebench` starts."""

from pathlib import Path

from agebench.processes import leave_current_folder

if __name__ == "__main__":
    leave_current_folder(Path(__file__).parent)
    from agebench.cli import main

    main()
