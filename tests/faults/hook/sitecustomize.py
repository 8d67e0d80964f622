"""Python imports this when it starts, if its directory is on PYTHONPATH: the daemon of a mount gets its faults so."""

import os
import sys

if "ANABRANCH_FAULTS" in os.environ and "--ready-fd" in sys.orig_argv:
    from tests.faults.boundary import install

    install(os.environ["ANABRANCH_FAULTS"])
