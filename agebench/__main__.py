"""`python -m agebench`, which is also what `torchrun -m agebench` starts."""

from agebench.cli import main

if __name__ == "__main__":
    main()
