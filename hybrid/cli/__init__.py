"""The command line: run experiments, draw figures, look after data, judge claims.

What only some commands need is imported in them: a run starts in a second, and on a machine that
has little but torch.
"""

from hybrid.cli import trials  # first, as in the list of commands

# isort: split
from hybrid.cli import pages

# isort: split
from hybrid.cli import chip, stored
from hybrid.cli.common import app

__all__ = ["app", "chip", "pages", "stored", "trials"]
