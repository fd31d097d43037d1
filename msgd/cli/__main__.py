"""``python -m msgd.cli``."""

from msgd.cli.main import main

main()
