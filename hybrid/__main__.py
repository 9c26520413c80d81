"""`python -m hybrid` is the command line."""

from hybrid.cli import app

app(prog_name="hybrid")
