"""`python -m robench`, which launchers of several processes start."""

from robench.cli.main import main

main()
