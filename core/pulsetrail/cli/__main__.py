"""``python -m pulsetrail.cli``."""

from pulsetrail.cli import main

main()
