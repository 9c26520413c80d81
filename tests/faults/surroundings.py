"""Odd homes, users, settings and command lines; environments that were copied or cut short."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import ready
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.paths import project_root
from tests.faults.tally import Tally

_LIST = ("data", "list")
_RUN = ("run", "fault_tolerance", "--method", "GP", "--seeds", "1", "--jobs", "1")
_DRAW = """
import matplotlib, sys
from pathlib import Path
from hybrid import figures
from matplotlib.figure import Figure
figures.use_style()
figure, axes = figures.canvas([["a"]], height=40)
axes["a"].plot([1, 2, 3])
figures.save(figure, "it", Path(sys.argv[1]), {})
"""


# Surroundings in which a trial runs, too, which takes its time.
_RUNS = (
    "no HOME",
    "a user without name or HOME",
    "an umask of 777",
    "no locale",
    "many threads asked for",
    "optimised",
    "another hash seed",
    "no network",
)


class Odd(NamedTuple):
    """Surroundings: variables to set, or to unset if None; and what runs the command."""

    variables: dict[str, str | None]
    prefix: tuple[str, ...] = ()


def _odd(folder: Path) -> dict[str, Odd]:
    settings = folder / "matplotlibrc"
    settings.write_text(
        "axes.facecolor: red\nsavefig.bbox: tight\nfont.size: 31\naxes.grid: True\n"
        "figure.dpi: 17\nlines.linewidth: 9\n"
    )
    broken = folder / "broken" / "matplotlibrc"
    broken.parent.mkdir()
    broken.write_text("backend: nothing\naxes.facecolor\ntext.usetex: maybe\n")
    read_only = folder / "read only"
    read_only.mkdir(mode=0o555)
    nobody = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
    return {
        "no HOME": Odd({"HOME": None}),
        "a HOME that is not there": Odd({"HOME": str(folder / "nowhere")}),
        "a HOME that is a file": Odd({"HOME": str(settings)}),
        "a user without a name": Odd({"HOME": str(folder)}, nobody),
        "a user without name or HOME": Odd({"HOME": None, "XDG_CACHE_HOME": None}, nobody),
        "an umask of 777": Odd({}, ("bash", "-c", 'umask 0777; exec "$@"', "odd")),
        "an umask of 000": Odd({}, ("bash", "-c", 'umask 0; exec "$@"', "odd")),
        "no locale": Odd({"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0"}),
        "ASCII": Odd({"PYTHONIOENCODING": "ascii", "LC_ALL": "POSIX"}),
        "an unknown locale": Odd({"LC_ALL": "xx_YY.KOI-99"}),
        "a matplotlibrc": Odd({"MATPLOTLIBRC": str(settings)}),
        "a broken matplotlibrc": Odd({"MATPLOTLIBRC": str(broken)}),
        "an unknown backend": Odd({"MPLBACKEND": "nothing"}),
        "a cache that is a file": Odd({"XDG_CACHE_HOME": str(settings)}),
        "a data folder that is a file": Odd({"HYBRID_DATA": str(settings)}),
        "no PATH": Odd({"PATH": ""}),
        "a narrow terminal": Odd({"COLUMNS": "1", "TERM": "dumb"}),
        "colours asked for": Odd({"FORCE_COLOR": "1", "NO_COLOR": None}),
        "optimised": Odd({"PYTHONOPTIMIZE": "1"}),
        "another hash seed": Odd({"PYTHONHASHSEED": "77"}),
        "one thread asked for": Odd({"OMP_NUM_THREADS": "1"}),
        "many threads asked for": Odd({"OMP_NUM_THREADS": "16"}),
        "another time zone": Odd({"TZ": "Pacific/Apia"}),
        "no network": Odd({}, ("unshare", "--net")),
    }


def foreign(folder: Path, quick: bool) -> Tally:
    """List data, run a trial and draw a figure in odd surroundings: as in usual ones."""
    tally = Tally()
    folder.chmod(0o777)
    if stat.S_IMODE(folder.parent.stat().st_mode) == 0o700:
        folder.parent.chmod(0o711)  # other users come by
    odd = _odd(folder)
    names = ["no HOME", "a matplotlibrc"] if quick else list(odd)
    commands = {"list": _LIST, "draw": ("draw",)} | ({} if quick else {"run": _RUN})
    usual = {name: _done(folder / f"usual {name}", own, Odd({})) for name, own in commands.items()}
    for name in names:
        surroundings = odd[name]
        if surroundings.prefix and not _possible(surroundings.prefix):
            continue
        for what, command in commands.items():
            if what == "run" and name not in _RUNS:
                continue
            place = folder / f"{name} {what}"
            code, said, made = _done(place, command, surroundings)
            lines = [line for line in said.splitlines() if line.startswith("error:")]
            raw = "Traceback" in said or (code != 0 and len(lines) != 1)
            if what == "draw" and code:  # no command: Python shows the error, which must say it all
                raw = not said.splitlines()[-1].startswith(("ValueError: Key backend", "OSError"))
            tally.add(
                f"{name}: {what}",
                raw=said[-400:] if raw else "",
                wrong=code == 0 and made != usual[what][2],
            )
    return tally


def _possible(prefix: tuple[str, ...]) -> bool:
    command = [*prefix, sys.executable, "-c", "import torch"]
    return bool(shutil.which(prefix[0])) and not subprocess.run(command, check=False).returncode


def _done(place: Path, command: tuple[str, ...], odd: Odd) -> tuple[int, str, dict[str, object]]:
    """Return exit code, what was said, and what was made but for times."""
    from tests.faults import sweeps

    place.mkdir(mode=0o777)
    place.chmod(0o777)
    arguments = ["-m", "hybrid", *command]
    if command == _RUN:
        arguments += ["--store", str(place)]
    if command == ("draw",):
        arguments = ["-c", _DRAW, str(place)]
    changed = {**os.environ, "PYTHONPATH": str(project_root()), **odd.variables}
    environment = {name: value for name, value in changed.items() if value is not None}
    if odd.variables.get("MATPLOTLIBRC") is None:
        environment.pop("MATPLOTLIBRC", None)
    done = subprocess.run(
        [*odd.prefix, sys.executable, *arguments],
        env=environment,
        cwd=place,
        capture_output=True,
        timeout=180.0,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    for path in place.rglob("*"):
        path.chmod(0o755)
    made: dict[str, object] = {}
    if command == _RUN:
        made = sweeps.outcome(place)
    elif command == ("draw",):
        made = {path.name: path.read_bytes() for path in place.iterdir()}
    return done.returncode, said, made


# Command lines that cannot work, each for one reason.
_WRONG = """
run
run nothing
run fault_tolerance --profile huge
run fault_tolerance --method none
run fault_tolerance --label none
run fault_tolerance --seeds 0
run fault_tolerance --seeds -1
run fault_tolerance --seeds x
run fault_tolerance --seed -1
run fault_tolerance --jobs 0 --method GP --seeds 1 --store {new}
run fault_tolerance --device tpu --method GP --seeds 1 --store {new}
run fault_tolerance --device cuda:9 --method GP --seeds 1 --store {new}
run fault_tolerance --store {file} --method GP --seeds 1
run fault_tolerance --minutes -1 --method GP --seeds 1 --store {new}
run fault_tolerance --minutes nan --method GP --seeds 1 --store {new}
run fault_tolerance --data nothing
run fault_tolerance --data {file}:make
run fault_tolerance --data {new}.py:make
run fault_tolerance --data {bad}:make
run fault_tolerance --settings {bad}:points
run fault_tolerance --settings {new}.py:points
run fault_tolerance --cluster nowhere
run fault_tolerance --cluster tcp://127.0.0.1:1
run fault_tolerance --profile search --method none
run continual --label none
run few_shot --profile controls --method none
run event_tolerance --side-by-side --label none
plan nothing
plan fault_tolerance --minutes x
plan fault_tolerance --method none
verify
verify {new}
verify {file}
verify {bad}
figures --profile none
figures --only 99
scoreboard --write --nothing
tianjic
tianjic {new}
tianjic {file}
tianjic {bad}
tianjic {new} --tested 0
tianjic {file} --chip {new}
tianjic {file} --chip {file}
tianjic {file} --space {new}/it.png
tianjic {file} --steps 0
checkpoint pack {new} {new}
checkpoint pack {folder} {file}
checkpoint pack {folder} {new} --megabytes 0
checkpoint unpack {new} {new}
checkpoint unpack {file} {new}
data list none
data verify none
data fetch none
data nothing
fsck {new}
fsck {file}
nothing
--nothing
"""


def command_lines(folder: Path, quick: bool) -> Tally:
    """Give commands that cannot work: an exit code, and one line that says why."""
    tally = Tally()
    places = {name: folder / name for name in ("file", "new", "folder", "bad.py")}
    places["file"].write_text("text")
    places["folder"].mkdir()
    places["bad.py"].write_text("1 / 0\n")
    words = {name.partition(".")[0]: str(path) for name, path in places.items()}
    with mock.patch.dict(os.environ, {"HYBRID_DATA": str(folder / "data")}):
        for line in _WRONG.split("\n")[1 : -1 : 4 if quick else 1]:
            arguments = [part.format(**words) for part in line.split()]
            done = CliRunner().invoke(app, arguments)
            said = done.output
            raw = "Traceback" in said or not isinstance(done.exception, SystemExit)
            # One line, or the box that tells how the command is used.
            ours = said[said.find("error: ") :].strip() if "error: " in said else ""
            fine = "\n" not in ours if done.exit_code == 1 else "Error" in said
            tally.add(
                line,
                raw=repr(done.exception) if raw else "" if fine else said,
                wrong=done.exit_code == 0,
            )
    return tally


def environments(folder: Path, quick: bool) -> Tally:
    """Cut the making of an environment short at each step; copy, move, touch and damage it."""
    tally = Tally()
    whole = ["venv", "pip", "pip", "pip"]
    for number, step in enumerate(whole):
        for kind in ("fails", "is killed"):
            made = ready_made(folder / f"{number} {kind}", stop=number, kind=kind)
            tally.add(f"step {number} {kind}: {step}", wrong=made.again() != whole)
    for name, expected in (
        ("copied", whole),
        ("moved", whole),
        ("mark damaged", whole),
        ("mark is a list", whole),
        ("interpreter gone", whole),
        ("linked elsewhere", whole),
        ("other interpreter", whole),
        ("lock touched", []),
        ("project touched", []),
        ("dated in the future", []),
        ("lock asks for more", ["pip", "pip", "pip"]),
    ):
        made = ready_made(folder / name)
        tally.add(name, wrong=made.after(name) != expected)
        tally.add(f"{name}, and again", wrong=made.again() != [])
    own = ready_made(folder / "somebody's")
    (own.root / ".venv" / ".ready").unlink()
    tally.ask("somebody's own", lambda: _refused(own), lambda found: found)
    return tally


_PROJECT = """\
[project]
scripts = { it = "it:main" }
[tool.uv]
constraint-dependencies = ["torch==2.13.0"]
"""
_LOCK = "numpy==2.4.6 ; sys_platform == 'linux' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"


def _refused(made: "Pretended") -> bool:
    """Return whether an environment that `make` has not made is left alone."""
    try:
        made.again()
    except SystemExit as error:
        return "was not made by `make`" in str(error) and (made.root / ".venv" / "numpy").exists()
    return False


class Pretended:
    """A project whose environment is pretended: what pip would install is a file."""

    def __init__(self, root: Path) -> None:
        self.root, self.commands = root, list[str]()
        self.stop: int | None = None
        self.kind = "fails"

    def again(self) -> list[str]:
        """Return what was run when the environment is asked for."""
        self.commands.clear()
        with mock.patch.object(ready.subprocess, "run", self._run):
            ready.ensure(self.root)
        return list(self.commands)

    def after(self, what: str) -> list[str]:
        """Return what was run after something has happened to it."""
        lock, mark = self.root / "requirements.lock", self.root / ".venv" / ".ready"
        project = self.root / "pyproject.toml"
        if what == "copied":
            there = self.root.with_name("there")
            shutil.copytree(self.root, there)
            self.root = there
        elif what == "moved":
            self.root = self.root.rename(self.root.with_name("elsewhere"))
        elif what == "mark damaged":
            mark.write_text("", "utf-8")
        elif what == "interpreter gone":
            (self.root / ".venv" / "bin" / "python").unlink()
        elif what == "mark is a list":
            mark.write_text("[1]", "utf-8")
        elif what == "linked elsewhere":
            there = self.root.with_name("another's")
            (self.root / ".venv").rename(there)
            (self.root / ".venv").symlink_to(there)
            (there / ".ready").write_text("{}", "utf-8")
        elif what == "other interpreter":
            mark.write_text(mark.read_text("utf-8").replace("interpreter", "other"), "utf-8")
        elif what == "lock touched":
            lock.write_text(_LOCK + "# more\n", "utf-8")
        elif what == "project touched":
            project.write_text(_PROJECT + "# more\n", "utf-8")
        elif what == "dated in the future":
            os.utime(project, (4e9, 4e9))
        else:
            lock.write_text(_LOCK + "# newer\n", "utf-8")
            (self.root / ".venv" / "numpy").unlink()
        return self.again()

    def _run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """Stand in for processes: venv, pip, and the question what is missing."""
        environment, code, said = self.root / ".venv", 0, ""
        asked = command[1:3] not in (["-m", "venv"], ["-m", "pip"])
        if asked:
            said = "" if (environment / "numpy").exists() else "numpy\n"
            return subprocess.CompletedProcess(command, code, said, "")
        (environment / "bin").mkdir(exist_ok=True)
        if len(self.commands) == self.stop and self.kind == "is killed":
            (environment / "numpy").touch()  # pip takes it for whole
            raise KeyboardInterrupt
        code = int(len(self.commands) == self.stop)
        self.commands.append(command[2])
        (environment / "bin" / "python").touch()
        if "-e" in command and not code:
            (environment / "bin" / "it").touch()
            (environment / "numpy").touch()
        return subprocess.CompletedProcess(command, code, said, "")


def ready_made(root: Path, *, stop: int | None = None, kind: str = "fails") -> Pretended:
    """Return a project whose environment is made, or was stopped at one of its four steps."""
    root.mkdir(parents=True)
    (root / "requirements.lock").write_text(_LOCK, "utf-8")
    (root / "pyproject.toml").write_text(_PROJECT, "utf-8")
    made = Pretended(root)
    made.stop, made.kind = stop, kind
    try:
        made.again()
    except (SystemExit, KeyboardInterrupt):
        made.stop = None
    return made
