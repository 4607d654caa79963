"""`python -m trio_extreme` is `trio-extreme`."""

from trio_extreme.cli import main

if __name__ == "__main__":
    main()
