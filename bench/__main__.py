"""``python -m bench`` is the command ``vsae-bench``."""

from bench.cli.app import main

if __name__ == "__main__":
    main()
