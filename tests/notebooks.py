"""Keep committed notebooks clean: outputs stay, metadata that depends on the run goes.

Run as a script after executing notebooks; a test verifies with the same arguments.
"""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def scrub(*options: str) -> subprocess.CompletedProcess[str]:
    """Run nbstripout on all notebooks as the pre-commit hook does."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    arguments = [*hooks["nbstripout"]["args"], *options, *map(str, NOTEBOOKS)]
    command = [sys.executable, "-m", "nbstripout", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(scrub().returncode)
