"""`python -m anabranch` is `ana`."""

from anabranch.cli.main import main

main()
