"""`python -m r2gengpt` is `r2gengpt`."""

from r2gengpt.cli.main import main

if __name__ == "__main__":
    main()
