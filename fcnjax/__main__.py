"""python -m fcnjax COMMAND."""

import sys

from fcnjax.cli import main

sys.exit(main.main())
