"""``python -m genrec`` is ``genrec``; launchers such as accelerate's start it in this form."""

from genrec.cli import main

if __name__ == "__main__":
    main()
