"""What came of attacks of one kind."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from hybrid.data.files import DamagedDataError
from hybrid.runs.files import DamagedFileError

# What a command turns into one line; anything else would be a traceback.
NAMED = (ValueError, OSError, ArithmeticError, DamagedDataError, DamagedFileError)


@dataclass
class Tally:
    """Attacks of a kind, and what went wrong in them.

    An attack is survived if it had no effect, or ended in a short message that says what is
    wrong, and if the same work, done again, then gave what an undisturbed run gives.
    """

    tried: int = 0
    wrong: int = 0  # something was believed that is not so
    lost: int = 0  # finished work was gone
    orphans: int = 0  # processes that outlived their parent
    raw: int = 0  # errors that are no line
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def survived(self) -> int:
        """Attacks after which all was well."""
        return self.tried - len(self.bad)

    def add(
        self, name: str, *, wrong: Any = 0, lost: Any = 0, orphans: Any = 0, raw: Any = 0
    ) -> None:
        """Count one attack."""
        self.tried += 1
        self.wrong += bool(wrong)
        self.lost += bool(lost)
        self.orphans += int(orphans)
        self.raw += bool(raw)
        if wrong or lost or orphans or raw:
            found = {"wrong": wrong, "lost": lost, "orphans": orphans, "raw": raw}
            self.bad.append(f"{name}: { {k: v for k, v in found.items() if v} }")

    def add_many(self, name: str, tried: int, **bad: int) -> None:
        """Count attacks of which only totals are known."""
        for number in range(tried):
            self.add(f"{name} {number}", **{what: number < total for what, total in bad.items()})

    def ask(self, name: str, work: Callable[[], Any], right: Callable[[Any], bool]) -> None:
        """Count an attack in this process: `work` gives what is `right`, or an error of one line.

        None stands for "there is none that can be trusted", which is always right.
        """
        try:
            found = work()
        except NAMED as error:
            self.add(name, raw=0 if str(error).strip() else "no message")
        except Exception as error:
            self.add(name, raw=repr(error))
        else:
            self.add(name, wrong=found is not None and not right(found))

    def figures(self) -> dict[str, Any]:
        """Return what the page on faults shows."""
        whole = asdict(self)
        kept = ("tried", "wrong", "lost", "orphans", "raw")
        return {"survived": self.survived} | {name: whole[name] for name in kept}


def as_line(name: str, tally: Tally) -> str:
    """Return the figures of a kind in words."""
    found = ", ".join(f"{k} {v}" for k, v in tally.figures().items())
    return "\n".join([f"{name}: {found} ({tally.seconds:.0f} s)", *map(json.dumps, tally.bad)])
