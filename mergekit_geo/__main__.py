"""`python -m mergekit_geo` is `geo-merge`."""

from mergekit_geo.cli.app import main

if __name__ == "__main__":
    main()
