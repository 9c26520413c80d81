"""Reading continual-learning records: (run, trained task, tested task) arrays and what they say."""

import numpy as np

from hybrid.experiments.records import Floats, Records


class Result(Records):
    """All finished trials of a profile."""

    def accuracy(self, label: str, method: str) -> Floats:
        """Return test accuracies in per cent [seeds, tasks + 1, tasks].

        Row 0 is of the untrained network, row k of the network after k tasks; column j is task j.
        NaN: not tested.
        """
        rows = [record["result"]["accuracy"] for record in self.of(label, method)]
        return 100.0 * np.array(rows, dtype=float)

    def average(self, label: str, method: str) -> Floats:
        """Return the mean accuracy over all tasks so far, in per cent [seeds, tasks]."""
        table = self.accuracy(label, method)
        return np.stack([table[:, k, :k].mean(1) for k in range(1, table.shape[1])], axis=1)

    def final(self, label: str, method: str) -> Floats:
        """Return the mean accuracy over all tasks after the last one, in per cent [seeds]."""
        last: Floats = self.average(label, method)[:, -1]
        return last

    def gap(self, label: str, first: str, second: str) -> Floats:
        """Return one method's final accuracy minus another's, over the seeds that both have."""
        return self.paired(label, first, second, self.final)

    def under(self, label: str, method: str, protocol: str) -> Floats:
        """Return `final` under another test protocol, in per cent [seeds].

        `accuracy` and all that follows from it are under "batch" where there are traces.
        """
        found = [record["result"]["final"][protocol] for record in self.of(label, method)]
        return np.asarray(100.0 * np.mean(found, axis=1))

    def learned(self, label: str, method: str) -> Floats:
        """Return the accuracy on each task just after it was learned, in % [seeds, tasks]."""
        table = self.accuracy(label, method)
        return np.stack([table[:, k + 1, k] for k in range(table.shape[2])], axis=1)

    def backward_transfer(self, label: str, method: str) -> Floats:
        """Return the mean of what later tasks added to earlier ones, in points [seeds].

        Source: Lopez-Paz and Ranzato, NeurIPS 2017.
        """
        table, learned = self.accuracy(label, method), self.learned(label, method)
        return np.asarray((table[:, -1, :-1] - learned[:, :-1]).mean(1))

    def forgetting(self, label: str, method: str) -> Floats:
        """Return the mean fall from a task's best to its last accuracy, in points [seeds].

        Source: Chaudhry et al., ECCV 2018.
        """
        table = self.accuracy(label, method)
        best = np.nanmax(table[:, 1:-1, :-1], axis=1)  # before the last task
        return np.asarray((best - table[:, -1, :-1]).mean(1))

    def forward_transfer(self, label: str, method: str) -> Floats:
        """Return what earlier tasks added to the next one before it was learned [seeds].

        In points, against the untrained network. Source: Lopez-Paz and Ranzato, NeurIPS 2017.
        """
        table = self.accuracy(label, method)
        ahead = np.stack([table[:, k, k] for k in range(1, table.shape[2])], axis=1)
        return np.asarray((ahead - table[:, 0, 1:]).mean(1))

    def overlap(self, label: str, method: str) -> Floats:
        """Return the cosines between tasks' mean spike counts [seeds, layers, tasks, tasks]."""
        found = [record["result"]["representations"] for record in self.of(label, method)]
        return np.array([entry["overlap"] for entry in found])

    def active(self, label: str, method: str) -> Floats:
        """Return the share of hidden neurons that spike for a task [seeds, layers, tasks]."""
        found = [record["result"]["representations"] for record in self.of(label, method)]
        return np.array([entry["active"] for entry in found])


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to."""
    return {
        f"continual/{label}/{method}": result.final(label, method)
        for label in result.labels()
        for method in result.methods(label)
    } | {
        f"continual/{label}/{first}-{second}": result.gap(label, first, second)
        for label in result.labels()
        for first, second in (("HP", "sparse GP"), ("HP", "EWC"), ("HP", "SI"))
        if {first, second} <= set(result.methods(label))
    }
