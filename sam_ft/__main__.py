"""python -m sam_ft train ...: the command sam-ft, for `torchrun -m` and where it is not on the PATH."""

from sam_ft.cli.commands import main

if __name__ == "__main__":
    main()
