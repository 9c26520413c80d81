"""One experiment: what it runs in each profile, and how it trains, tests, reads and judges."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, cast

from torch import nn

from hybrid.checks import choose
from hybrid.experiments.core.settings import SettingsT
from hybrid.experiments.core.trials import (
    Begun,
    MethodT,
    Place,
    Trial,
    choose_device,
    finished,
    run_all,
)
from hybrid.paths import results_folder
from hybrid.runs.files import canonical_json
from hybrid.runs.store import Json, Store, read_record
from hybrid.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from hybrid.experiments.core.records import Drawn, Records, Row
    from hybrid.report.estimate import Floats

# "controls" sets the laptop's networks against others; constants were chosen by "search", on
# validation data.
Profile = Literal["smoke", "laptop", "paper", "controls", "search"]
PROFILES: tuple[Profile, ...] = ("smoke", "laptop", "paper")
BEST = "best"  # what `load` takes for the paper's profile where it is whole, else the laptop's


@dataclass(frozen=True, kw_only=True)
class Group(Generic[SettingsT]):
    """Some settings, and the methods and number of seeds each is run with, from `first_seed` on."""

    settings: tuple[SettingsT, ...]
    methods: tuple[str, ...]
    seeds: int
    first_seed: int = 1


Plan = tuple[Group[SettingsT], ...]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment(Generic[SettingsT, MethodT]):
    """What makes one experiment differ from another; it can be sent to other processes.

    Args:
        name: of the experiment, of its folder of records, and in ids of claims.
        notebook: that shows it.
        methods: that it knows.
        plans: what each profile runs, as data.
        data_sha256: settings to a hash of their data, after fetching these.
        build: trial to its untrained network.
        begin: prepares the training of one network, and what follows it, see `Begun`.
        read_by: package whose modules read records, and are imported when there are some to read:
            `claims`, with `rows` and `claims`, and `figure`, with `draw_all`.
        on_own: (settings, data of one's own, label) to settings for these; None where the
            experiment is about data of its own.
    """

    name: str
    notebook: str
    methods: tuple[MethodT, ...]
    plans: Mapping[Profile, Plan[SettingsT]]
    data_sha256: Callable[[SettingsT], str]
    build: Callable[[Trial[SettingsT, MethodT]], nn.Module]
    begin: Callable[[Trial[SettingsT, MethodT], Place], Begun]
    read_by: str
    on_own: Callable[[SettingsT, str, str], SettingsT] | None = None

    def compute(self, trial: Trial[SettingsT, MethodT], place: Place) -> tuple[Json, nn.Module]:
        """Train and test one network; return the result of its record, and the network."""
        return finished([self.begin(trial, place)])[0]

    def rows(self, record: Json) -> "Iterable[Row]":
        """Return what a record says, one row for each protocol, condition and level."""
        found: Iterable[Row] = import_module(f"{self.read_by}.claims").rows(record)
        return found

    def claims(self, frame: "pd.DataFrame") -> "Mapping[str, Floats]":
        """Return values [seeds] for claims, by what follows the experiment's name in their ids."""
        found: Mapping[str, Floats] = import_module(f"{self.read_by}.claims").claims(frame)
        return found

    def draw(self, records: "Records[Any, Any]", seed: int) -> "Drawn":
        """Return all figures of a profile, ready to be drawn; the seed is that of examples."""
        drawn: Drawn = import_module(f"{self.read_by}.figure").draw_all(records, seed)
        return drawn

    def method(self, name: str) -> MethodT:
        """Return a method by name; ValueError names the methods there are."""
        known = {method.name: method for method in self.methods}
        return known[choose("method", name, known)]

    def with_data(
        self, profile: str, data: str | Callable[[], Any]
    ) -> "Experiment[SettingsT, MethodT]":
        """Return the experiment with data of one's own in the plan of a profile.

        Size, channels and classes are those of the data; all other constants are the plan's.

        Args:
            profile: whose settings, methods and seeds are taken.
            data: the place of a function that returns them, `my_data.py:make`, or the function
                itself, if a file defines it; see `own_data` for what it may return.

        Raises:
            ValueError: if the experiment takes no other data, or see `own_data`.
        """
        if self.on_own is None:
            raise ValueError(f"{self.name} has data of its own, which cannot be exchanged")
        place = data if isinstance(data, str) else _place_of(data)
        file, _, function = place.rpartition(":")
        own, plan = Path(file).stem, self._plan(profile)
        own = own if function == "make" else f"{own}-{function}"
        alone = len({s.label for group in plan for s in group.settings}) == 1
        groups, refused = [], ""
        for group in plan:
            found: dict[str, SettingsT] = {}
            for settings in group.settings:
                label = own if alone else f"{own}-{settings.label}"
                if settings.dataset in settings.label:
                    label = settings.label.replace(settings.dataset, own)
                try:
                    new = self.on_own(settings, place, label)
                except ValueError as error:  # settings for colours, for example
                    refused = str(error)
                    _log.warning("%s is left out: %s", settings.label, refused)
                    continue
                if found.get(label, new) != new:  # it was told from others by its data set
                    label = f"{own}-{settings.label}"
                    new = replace(new, label=label)
                found[label] = new
            if found:
                groups.append(replace(group, settings=tuple(found.values())))
        if not groups:
            raise ValueError(refused)
        return self._planned(profile, tuple(groups))

    def with_settings(
        self, profile: str, given: "SettingsT | Sequence[SettingsT] | Plan[SettingsT]"
    ) -> "Experiment[SettingsT, MethodT]":
        """Return the experiment with settings of one's own in the place of a profile's plan.

        Args:
            profile: whose methods and number of seeds are taken, unless groups say otherwise.
            given: settings, such as `vary` returns, or groups of them.

        Raises:
            ValueError: if they are none of this experiment.
        """
        several = tuple(given) if isinstance(given, list | tuple) else (given,)
        own = tuple(entry for entry in several if not isinstance(entry, Group))
        groups = tuple(entry for entry in several if isinstance(entry, Group))
        plan = self._plan(profile)
        if own:
            methods = tuple(dict.fromkeys(name for group in plan for name in group.methods))
            seeds = max(group.seeds for group in plan)
            groups = (*groups, Group(settings=own, methods=methods, seeds=seeds))
        kind = type(plan[0].settings[0])
        if not groups or not all(isinstance(s, kind) for group in groups for s in group.settings):
            raise ValueError(
                f"{self.name} takes settings of kind {kind.__name__}, or Groups of them"
            )
        return self._planned(profile, groups)

    def _plan(self, profile: str) -> Plan[SettingsT]:
        return self.plans[cast("Profile", choose("profile", profile, self.plans))]

    def _planned(self, profile: str, plan: Plan[SettingsT]) -> "Experiment[SettingsT, MethodT]":
        return replace(self, plans={**self.plans, cast("Profile", profile): plan})

    def trials(
        self,
        profile: str,
        *,
        seed: int = 0,
        seeds: int | None = None,
        methods: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> list[Trial[SettingsT, MethodT]]:
        """Return the trials of a profile, or some of them; see `run`.

        Raises:
            ValueError: if a profile, method or label is unknown, nothing is left, or one label is
                given to two different settings.
        """
        plan = self._plan(profile)
        known: dict[str, SettingsT] = {}
        for settings in (settings for group in plan for settings in group.settings):
            if known.setdefault(settings.label, settings) != settings:
                raise ValueError(
                    f"label {settings.label!r} is given to two different settings: records are "
                    "read by label, so give each its own (`vary` does)"
                )
        for label in labels or ():
            choose("label", label, known)
        for what, names in (("methods", methods), ("labels", labels)):
            if names is not None and (not names or len(set(names)) < len(names)):
                raise ValueError(f"{what} = {list(names)}: choose at least one, each once")
        if seeds is not None and seeds < 1:
            raise ValueError(f"seeds = {seeds}: give at least one")
        chosen = [m.name for m in self.methods]
        if methods is not None:
            chosen = [self.method(name).name for name in methods]
        trials = [
            Trial(self, settings, self.method(name), seed + group.first_seed + i)
            for group in plan
            for settings in group.settings
            if labels is None or settings.label in labels
            for i in range(seeds or group.seeds)
            for name in group.methods
            if name in chosen
        ]
        if not trials:
            raise ValueError("nothing to run: these settings are not run with these methods")
        return trials

    def run(
        self,
        profile: str,
        *,
        seed: int = 0,
        seeds: int | None = None,
        methods: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        store: Store | None = None,
        jobs: int = 1,
        device: str = "auto",
        fast: bool = False,
        minutes: float | None = None,
        side_by_side: bool = False,
        untested: bool = False,
    ) -> "Records[SettingsT, MethodT]":
        """Run a profile, or what is left of it.

        Args:
            profile: "smoke", "laptop" or "paper".
            seed: added to the seeds of the plan, which are 1 … n unless it says otherwise.
            seeds: how many, in the place of the plan's number; None for that.
            methods, labels: subsets of the profile's methods and settings, by name; None for all.
            store: where records are looked up and kept; None computes all and keeps nothing.
            jobs: processes.
            device: "auto", "cpu" or a torch device.
            fast: with this processor's own instructions; such records need not repeat elsewhere.
            minutes: for which the machine is there; None for as long as it takes. Trainings end
                with the last epoch that fits, and the same call goes on from there.
            side_by_side: whether networks that differ by their seed alone are trained in one
                batched call, see `fit_side_by_side`: on a GPU, which has room for them.
            untested: whether to end with the training, on a machine that only trains; the same
                call without it, elsewhere, tests what was trained.

        Raises:
            LeaseOverError: if the minutes were not enough, or trials are `untested`; what is
                finished is kept.
            ValueError: if a name is unknown. Other errors as of the data and training modules.
        """
        trials = self.trials(profile, seed=seed, seeds=seeds, methods=methods, labels=labels)
        where, title = choose_device(device), f"{self.name} ({profile})"
        how: dict[str, Any] = {"jobs": jobs, "fast": fast, "minutes": minutes}
        how |= {"side_by_side": side_by_side, "untested": untested}
        done = run_all(trials, store=store, device=where, title=title, **how)
        return self.records(trials, done, profile)

    def load(
        self, profile: str, *, folder: Path | None = None, seeds: int | None = None
    ) -> "Records[SettingsT, MethodT]":
        """Read the committed records of a profile, without data and without training.

        Args:
            profile: by name; "best" for the paper's if all its trials are there, else the laptop's.
            folder: of records; None for the committed ones.
            seeds: see `run`.

        Raises:
            DamagedFileError: if a record is damaged.
            FileNotFoundError: if there is none with the plan's present constants.
            ValueError: if records contradict each other, see `records`.
        """
        if profile == BEST:
            return self._best(folder, seeds)
        folder = folder or results_folder(profile)
        paths = sorted((folder / self.name).glob("*.json"))
        trials = self.trials(profile, seeds=seeds)
        records = self.records(trials, [read_record(path) for path in paths], profile)
        if not records.records:
            raise FileNotFoundError(
                f"{folder} holds no finished trial of {self.name} with the constants of profile "
                f"{profile!r}: compute them with `hybrid run {self.name} --profile {profile}`"
            )
        return records

    def scoreboard(self, *, ours: bool = False) -> str:
        """Return the paper's claims, or comparisons of ours, judged by committed records, as text.

        Raises:
            DamagedFileError: if a record was changed by hand, or is damaged.
        """
        from hybrid.experiments.scoreboard.rows import rows
        from hybrid.report.scoreboard import as_text, waiting

        own = [row for row in rows(self.name) if (row.claim.confidence == "ours") == ours]
        if not own:
            return "none of its claims can be judged: no number of the paper is known"
        if not ours:
            return as_text(own)
        spoken = [row for row in own if row.estimate is not None]
        return "\n".join([as_text(spoken), "", *waiting(own)]).rstrip()

    def card(self, *claims: str) -> str:
        """Return some claims as a table of Markdown: paper, ours, verdict.

        Args:
            claims: ids in `data/paper.toml`, without the experiment's name.

        Raises:
            ValueError: if there is no such claim.
        """
        from hybrid.experiments.scoreboard.rows import rows
        from hybrid.report.scoreboard import as_card

        if not claims:
            raise ValueError("claims = (): name at least one")
        known = {row.claim.id.removeprefix(f"{self.name}/"): row for row in rows(self.name)}
        return as_card([known[choose("claim", claim, known)] for claim in claims])

    def _best(self, folder: Path | None, seeds: int | None) -> "Records[SettingsT, MethodT]":
        if "paper" in self.plans:
            with suppress(FileNotFoundError):
                found = self.load("paper", folder=folder, seeds=seeds)
                if len(found.records) == len(self.trials("paper", seeds=seeds)):
                    return found
        return self.load("laptop", folder=folder, seeds=seeds)

    def records(
        self, trials: Sequence[Trial[SettingsT, MethodT]], found: Sequence[Json], profile: str = ""
    ) -> "Records[SettingsT, MethodT]":
        """Return those records that belong to one of the trials, in the order of these.

        Records of another version of the package, or of other constants, do not count.

        Raises:
            ValueError: if two are of the same trial, or those of one data set of different data.
        """
        places = {canonical_json(trial.identity()): i for i, trial in enumerate(trials)}
        parts = ("settings", "method", "seed")
        own: dict[int, Json] = {}
        data: dict[str, str] = {}
        for record in found:
            request = record["request"]
            if request["version"] != __version__ or not all(part in request for part in parts):
                continue
            place = places.get(canonical_json({part: request[part] for part in parts}))
            if place is None:
                continue
            label = request["label"]
            if place in own:
                raise ValueError(f"there are several records of {label}: remove the outdated ones")
            dataset = trials[place].settings.dataset
            if data.setdefault(dataset, request["data"]) != request["data"]:
                raise ValueError(
                    f"there are records of different data for {dataset}: remove the outdated ones"
                )
            own[place] = record
        from hybrid.experiments.core.records import Records  # reading brings pandas with it

        planned = {trial.settings.label: trial.settings for trial in trials}
        return Records(self, planned, tuple(own[place] for place in sorted(own)), profile)


def _place_of(function: Callable[[], Any]) -> str:
    """Return the place of a function, by which other processes find it."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", "")
    if code is None or not Path(code.co_filename).is_file() or "." in name:
        raise ValueError(
            f"{name or function!r} cannot be found by other processes: define it at the top of a "
            "file, and give that or its place, my_data.py:make"
        )
    return f"{code.co_filename}:{name}"
