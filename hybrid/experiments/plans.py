"""Plans: which configs are run with which methods and how many seeds; alike for all experiments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hybrid.experiments.base import (
    Method,
    Profile,
    choose_device,
    choose_methods,
    choose_profile,
    results_folder,
)
from hybrid.experiments.trials import (
    Config,
    Experiment,
    Trial,
    first_seeds,
    load_records,
    own_records,
    run_all,
)
from hybrid.runs.store import Json, Store


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some configs, and the methods and number of seeds each is run with."""

    configs: tuple[Config, ...]
    methods: tuple[str, ...]
    seeds: int


Plan = tuple[Group, ...]


class Outcome(NamedTuple):
    """What was planned, and the records there are of it."""

    planned: tuple[str, ...]  # labels of all configs, finished or not
    records: tuple[Json, ...]


@dataclass(frozen=True, kw_only=True)
class Schemes:
    """An experiment, its methods, and a plan for each profile."""

    experiment: Experiment
    methods: tuple[Method, ...]
    plans: dict[Profile, Plan]

    def trials(
        self,
        profile: str,
        *,
        seed: int = 0,
        seeds: int | None = None,
        methods: Sequence[str] | None = None,
        configs: Sequence[str] | None = None,
    ) -> list[Trial]:
        """Return the trials of a profile, or some of them; see `run`.

        Raises:
            ValueError: if a profile, method or config is unknown, or nothing is left.
        """
        plan = choose_profile(profile, self.plans)
        known = {config.label: config for group in plan for config in group.configs}
        for label in configs or ():
            if label not in known:
                raise ValueError(f"config {label!r} is unknown: choose among {', '.join(known)}")
        chosen = self.methods
        if methods is not None:
            chosen = choose_methods(tuple(methods), self.methods)
        trials = [
            Trial(self.experiment, config, method, seed + 1 + i)
            for group in plan
            for config in group.configs
            if configs is None or config.label in configs
            for i in range(first_seeds(group.seeds, seeds))
            for method in choose_methods(group.methods, self.methods)
            if method in chosen
        ]
        if not trials:
            raise ValueError("nothing to run: these configs are not run with these methods")
        return trials

    def run(
        self,
        profile: str,
        *,
        seed: int = 0,
        seeds: int | None = None,
        methods: Sequence[str] | None = None,
        configs: Sequence[str] | None = None,
        store: Store | None = None,
        jobs: int = 1,
        device: str = "auto",
    ) -> Outcome:
        """Run a profile, or what is left of it.

        Args:
            profile: "smoke", "laptop" or "paper".
            seed: the trials use seeds seed + 1 … seed + n.
            seeds: at most so many of them; None for all.
            methods, configs: subsets of the profile's, by name and by label; None for all.
            store: where records are looked up and kept; None computes all and keeps nothing.
            jobs: processes.
            device: "auto", "cpu" or a torch device.

        Raises:
            ValueError: if a name is unknown. Other errors as of the data and training modules.
        """
        trials = self.trials(profile, seed=seed, seeds=seeds, methods=methods, configs=configs)
        title = f"{self.experiment.name} ({profile})"
        chosen = choose_device(device)
        records = run_all(trials, store=store, jobs=jobs, device=chosen, title=title)
        return Outcome(_labels(trials), own_records(trials, records))

    def load(self, profile: str, *, folder: Path | None = None) -> Outcome:
        """Read the committed records of a profile, without data and without training.

        Raises:
            DamagedFileError: if a record is damaged.
            FileNotFoundError: if there is none with the plan's present constants.
            ValueError: if records contradict each other, see `own_records`.
        """
        trials = self.trials(profile)
        seeds = max(trial.seed for trial in trials)
        name = self.experiment.name
        records = own_records(trials, load_records(profile, name, seeds, folder))
        if not records:
            raise FileNotFoundError(
                f"{folder or results_folder(profile)} holds no finished trial of {name} with the "
                f"constants of profile {profile!r}: compute them with "
                f"`hybrid run {name} --profile {profile}`"
            )
        return Outcome(_labels(trials), records)


def _labels(trials: Sequence[Trial]) -> tuple[str, ...]:
    return tuple({trial.config.label: None for trial in trials})
