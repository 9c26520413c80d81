"""The few-shot experiment: episodes, methods, tests on unseen classes, records, figure."""

import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.data.augment import Jitter
from hybrid.data.characters import render_glyphs
from hybrid.data.episodes import sample_episodes
from hybrid.described import as_json, from_json
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.records import Records, levels, samples, select
from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.experiments.few_shot import EXPERIMENT, episodes, plans, run
from hybrid.experiments.few_shot.claims import interval, sizes_in
from hybrid.experiments.few_shot.episodes import halves, meta_batches, pool_of
from hybrid.experiments.few_shot.figure import draw
from hybrid.experiments.few_shot.methods import (
    GP,
    HEBBIAN,
    HP,
    LP,
    MAML,
    METHODS,
    NEAREST,
    FewShotMethod,
)
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.bilevel import Bilevel
from hybrid.learning.episodic import (
    EpisodicNetwork,
    MetaBatch,
    Objective,
    batch_loss,
    meta_step,
)
from hybrid.learning.schedule import Schedule
from hybrid.model.few_shot import FewShot, FewShotReadOut, Support
from hybrid.report.estimate import Estimate
from hybrid.report.figures import COLOURS
from hybrid.runs.store import Json, Store

CPU = torch.device("cpu")
TINY = replace(
    plans.AUTHORS,
    label="tiny",
    dataset="few_glyphs",
    validation=10,
    unseen=12,
    ink="unit",
    flipped=0.0,
    channels=(8, 8),
    normalised=True,
    length=10.0,
    label_current=100.0,
    largest_rate=1.0,
    ways=3,
    queries=2,
    shared=(6, 4),
    objective=Objective("cross-entropy"),
    steps=4,
    schedule=Schedule(
        epochs=3,
        batch_size=4,
        lr_weight=3e-3,
        lr_meta=1e-3,
        eps=1e-6,
        decay="cosine",
        decay_meta=True,
    ),
    tests=((3, 1), (12, 2)),  # in an order that is not the alphabet's
    test_episodes=60,
    validation_episodes=40,
)
AUTHORS = replace(
    TINY,
    label="authors",
    ink="authors",
    flipped=0.2,
    normalised=False,
    length=None,
    label_current=10.0,
    largest_rate=0.1,
    queries=1,
    shared=None,
    objective=Objective("binary", Bilevel(rate=0.1, lookahead=False)),
    steps_per_check=2,
    schedule=replace(TINY.schedule, batch_size=1, decay="halves"),
    steps=2,
)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """Sixty classes instead of five hundred, and a smoke profile that takes seconds."""
    glyphs = render_glyphs(list(range(ord("0"), ord("9") + 1)) + list(range(0x410, 0x442)))
    names = tuple(method.name for method in METHODS if method is not MAML)
    episodes.characters_of.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "load_characters", lambda name: glyphs)
        patch.setitem(plans.PLANS, "smoke", (Group(settings=(TINY,), methods=names, seeds=2),))
        yield
    episodes.characters_of.cache_clear()


@pytest.fixture(scope="module")
def kept(_tiny: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records[Any, Any]]:
    """The store of a whole run, to be read alone, and what the run returned."""
    folder = tmp_path_factory.mktemp("store")
    return folder, EXPERIMENT.run("smoke", store=Store(folder), device="cpu")


def build(settings: FewShotSettings, method: FewShotMethod) -> EpisodicNetwork:
    """Return the untrained network of seed 1."""
    return Trial(EXPERIMENT, settings, method, 1).build()


def compute(
    settings: FewShotSettings, method: FewShotMethod, checkpoint: Path | None = None
) -> tuple[Json, EpisodicNetwork]:
    """Train and test the network of seed 1."""
    return EXPERIMENT.compute(Trial(EXPERIMENT, settings, method, 1), Place(CPU, checkpoint))


def first_meta_batch(settings: FewShotSettings) -> MetaBatch:
    pool = pool_of(settings, 1)
    return next(meta_batches(pool, settings, torch.Generator().manual_seed(0), CPU))


@pytest.mark.parametrize("settings", [TINY, AUTHORS], ids=lambda settings: settings.label)
def test_jittered_drawings_keep_their_paper(settings: FewShotSettings) -> None:
    """What comes into sight at the border is as white as the page, in support and query."""
    still = replace(settings, jitter=Jitter(0.0, 0.0, 0.0), flipped=0.0)
    plain = first_meta_batch(still).batches[0].images
    moved = first_meta_batch(replace(still, jitter=Jitter(10.0, 0.1, 2.0))).batches[0].images
    assert plain.shape == moved.shape
    paper = plain[0, 0, 0, 0]
    assert (plain[:, :, 0] == paper).float().mean() > 0.5
    torch.testing.assert_close(moved[:, :, 0].median(), paper)
    low, high = plain.min() - 1e-4, plain.max() + 1e-4
    assert ((moved >= low) & (moved <= high)).all()
    changed = (moved - plain).abs().flatten(1).amax(1) > 0.1
    assert changed.all(), "every drawing is moved"


def test_the_authors_network_and_constants() -> None:
    """4 x 128 channels, 512 features, and every constant of their script."""
    settings = plans.AUTHORS
    network = build(settings, HP)
    assert isinstance(network, FewShot)
    head = network.head
    assert isinstance(head, FewShotReadOut)
    assert [m.weight.shape[0] for m in network.embedding.convolutions] == [128] * 4
    assert head.weight.shape[1] == 512
    assert (head.neuron.v_th, head.neuron.decay, head.neuron.reset) == (0.5, 0.2, "zero")
    assert (head.label_current, head.largest_rate) == (10.0, 0.1)
    assert head.rule is not None
    assert (head.rule.trace_decay, head.rule.post) == (0.99, "softmax")
    objective = settings.objective
    assert objective.loss == "binary"
    assert objective.bilevel is not None
    assert (objective.bilevel.rate, objective.bilevel.lookahead) == (0.1, False)
    schedule = settings.schedule
    assert (schedule.lr_weight, schedule.lr_meta, schedule.eps) == (8e-5, 3e-5, 1e-6)
    assert [schedule.share(epoch) for epoch in range(3)] == [1.0, 0.5, 0.25]
    assert settings.steps == 10_000, "rates halve each 10,000 iterations"


def test_methods_of_a_seed_start_from_one_embedding() -> None:
    methods = [method for method in METHODS if method is not NEAREST]
    networks = [build(replace(TINY, normalised=False), method) for method in methods]
    first = networks[0].embedding.convolutions[0].weight
    assert all(torch.equal(n.embedding.convolutions[0].weight, first) for n in networks)
    trained = {
        method.name: (len(n.weight_parameters()), len(n.meta_parameters()))
        for method, n in zip(methods, networks, strict=True)
    }
    assert trained["LP"] == (0, 0)
    assert trained["HP"][1] == 3
    assert trained["GP"][1] == trained["Hebbian"][1] == 0
    assert trained["GP"][0] == trained["HP"][0] + 1, "mixing scales the weights there"


def test_shared_drawings_are_embedded_once() -> None:
    meta_batch = first_meta_batch(TINY)
    (batch,) = meta_batch.batches
    assert meta_batch.check is None
    assert len(batch.images) <= 6 * 4
    assert batch.support.shape == (4, 3)
    assert batch.query.shape == (4, 2)
    assert batch.images.min() >= 0.0
    assert batch.images.max() <= 1.0


def test_theta_is_checked_on_other_drawings_of_the_same_classes() -> None:
    pool, source = pool_of(AUTHORS, 1), np.random.default_rng(0)
    drawn = sample_episodes(
        pool.split.train, pool.drawings, 20, ways=3, shots=4, queries=2, generator=source
    )
    learned, checked = halves(drawn, replace(AUTHORS, shots=2))
    for first, second in ((learned, checked), (checked, learned)):
        assert first.support.shape == (20, 6)
        for row in range(20):
            used = {*first.support[row], *first.query[row]}
            assert not used & {*second.support[row], *second.query[row]}
            class_of = dict(zip(first.labels[row], first.support[row] // 12, strict=True))
            other = dict(zip(second.labels[row], second.support[row] // 12, strict=True))
            assert class_of == other
            assert first.query[row, 0] // 12 == class_of[first.targets[row, 0]]
    meta_batch = first_meta_batch(AUTHORS)
    assert len(meta_batch.batches) == 2
    assert meta_batch.check is not None
    assert meta_batch.check.support.shape == meta_batch.batches[0].support.shape == (1, 3)
    assert meta_batch.batches[0].images.max() > 0.2, "white is the highest value"
    assert meta_batch.batches[0].images.min() < -2.0


def test_no_class_is_learned_from_and_tested_on() -> None:
    settings = replace(TINY, rotations=True)
    pool = pool_of(settings, 1)
    base = {number % 60 for number in pool.split.train}
    assert len(pool.split.train) == 4 * len(base)
    assert not base & {*pool.split.test, *pool.split.validation}
    other = pool_of(settings, 2).split.test
    assert set(other) != set(pool.split.test), "seeds differ in their classes"


def test_batched_episodes_equal_one_at_a_time() -> None:
    """Outputs to 1e-6; the sum of the gradients, too."""
    settings = replace(TINY, normalised=False, schedule=replace(TINY.schedule, batch_size=6))
    network = build(settings, HP).double()
    (batch,) = first_meta_batch(settings).batches
    batch = batch._replace(images=batch.images.double())
    loss = batch_loss(network, batch, "cross-entropy")
    loss.backward()
    together = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    losses = []
    for row in range(6):
        rows = slice(row, row + 1)
        alone = batch._replace(
            support=batch.support[rows],
            labels=batch.labels[rows],
            query=batch.query[rows],
            targets=batch.targets[rows],
        )
        losses.append(batch_loss(network, alone, "cross-entropy"))
        (losses[-1] / 6).backward()
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    one_by_one = [p.grad for p in network.parameters() if p.grad is not None]
    for a, b in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_trace_there_is_nothing_but_chance() -> None:
    network = build(TINY, GP)
    (batch,) = first_meta_batch(TINY).batches
    features = network.embedding(batch.images)
    bound = network.head.bind(Support(features[batch.support], batch.labels), ways=3)
    assert bound.final.trace is None
    pool = pool_of(TINY, 1)
    tested = run.Tested.of(network, pool, pool.split.test, TINY, CPU)
    asked = tested.episodes(4_000, 5, 1, np.random.default_rng(0))
    assert abs(tested.correct(asked, 5).mean() - 0.2) < 0.025


@pytest.mark.parametrize("settings", [TINY, AUTHORS], ids=lambda settings: settings.label)
def test_a_stopped_trial_goes_on_to_the_same_end(settings: FewShotSettings, tmp_path: Path) -> None:
    schedule = settings.schedule
    if schedule.decay == "cosine":  # rates depend on the number of epochs there
        schedule = replace(schedule, decay="none")
    settings = replace(settings, schedule=schedule)
    expected, network = compute(settings, HP)
    checkpoint = tmp_path / "checkpoint.safetensors"
    compute(replace(settings, schedule=replace(schedule, epochs=1)), HP, checkpoint)
    resumed, again = compute(settings, HP, checkpoint)
    assert resumed == expected
    for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("meta", ["joint", "finite-difference", "exact", "first-order"])
def test_theta_learns_in_each_way_and_hebbian_keeps_it(meta: Any) -> None:
    bilevel = None if meta == "joint" else Bilevel(second_order=meta, rate=0.1, lookahead=False)
    schedule = replace(AUTHORS.schedule, lr_meta=1e-2, epochs=1)
    settings = replace(AUTHORS, objective=Objective("binary", bilevel), schedule=schedule)
    for method in (HP, HEBBIAN):
        start = build(settings, method).head.theta.mixing.detach().clone()
        _, network = compute(settings, method)
        moved = (network.head.theta.mixing - start).abs().max().item()
        assert moved > 1e-3 if method is HP else moved == 0.0
        assert torch.isfinite(network.head.theta.mixing).all()


def with_right(
    records: Records[Any, Any], method: str, rights: tuple[int, ...]
) -> Records[Any, Any]:
    """Return the records of a method with so many right answers in the first size of episodes."""
    found = deepcopy(records.of("tiny", method))
    for record, right in zip(found, rights, strict=True):
        record["result"]["tests"]["3-way 1-shot"]["right"] = right
    return replace(records, records=tuple(found))


FIRST = {"label": "tiny", "condition": "3-way 1-shot"}


def test_intervals_end_where_accuracies_do(kept: tuple[Path, Records[Any, Any]]) -> None:
    changed = with_right(kept[1], "nearest", (60, 50))
    found = interval(changed.frame, method="nearest", **FIRST)
    assert (found.low, found.high) == (0.0, 100.0), "two seeds say little"


def test_records_are_read_back_and_drawn(kept: tuple[Path, Records[Any, Any]]) -> None:
    folder, records = kept
    assert len(records.records) == 2 * 7
    again = EXPERIMENT.load("smoke", folder=folder)
    frame = again.frame
    assert again.labels == ("tiny",)
    assert set(again.methods("tiny")) == {method.name for method in METHODS if method is not MAML}
    assert sizes_in(select(frame, method="HP")) == ["3-way 1-shot", "12-way 2-shot"]
    for name in again.methods("tiny"):
        np.testing.assert_array_equal(
            samples(frame, method=name, **FIRST), samples(records.frame, method=name, **FIRST)
        )
    learning = {"method": "HP", "condition": "learning"}
    assert levels(frame, **learning).tolist() == [16.0, 32.0, 48.0]
    assert samples(frame, **learning).shape == (2, 3)
    assert select(frame, method="LP", condition="learning").empty
    assert "few_shot/tiny/3-way 1-shot/HP" in again.claims()
    example = again.results("tiny", "HP")[0]["examined"]["example"]
    assert np.array(example["traces"]).shape == (3, 3, 48)
    first_look = np.array(example["traces"])[0]
    shown = example["labels"][0]
    assert np.abs(first_look[shown]).max() > 100 * np.abs(np.delete(first_look, shown, 0)).max()

    figure = draw(again)
    panels = {axes.get_title(): axes for axes in figure.axes}
    (unseen,) = [own for title, own in panels.items() if title.startswith("Unseen classes, 3-way")]
    dots = [line for line in unseen.get_lines() if line.get_marker() == "o"]
    assert len(dots) >= 2 * 7, "more, where seeds are shown one by one"
    first = [
        line for line in dots if line.get_color() == COLOURS["LP"] and line.get_xdata()[0] < 0.5
    ]
    found = np.mean([line.get_ydata()[0] for line in first])  # of the mean, or of all seeds
    np.testing.assert_allclose(found, samples(frame, method="LP", **FIRST).mean())
    for axes in figure.axes:
        for label in (axes.get_xlabel(), axes.get_ylabel()):
            assert label == "" or label[0].islower()


def test_maml_learns_and_is_asked_without_shared_features() -> None:
    schedule = replace(TINY.schedule, epochs=1, batch_size=2)
    settings = replace(TINY, schedule=schedule, steps=1, test_episodes=6, validation_episodes=4)
    result, network = compute(settings, MAML)
    assert not network.embedding.normalised
    assert result["tests"]["3-way 1-shot"]["episodes"] == 6
    assert "theta" not in result["examined"]
    assert np.isfinite(result["epochs"][0]["loss"])


def test_lp_learns_nothing_by_gradients() -> None:
    result, network = compute(TINY, LP)
    assert result["epochs"] == []
    assert not any(p.requires_grad for p in network.parameters())


def test_intervals_of_one_seed_are_wilsons_and_of_several_students(
    kept: tuple[Path, Records[Any, Any]],
) -> None:
    some, all_right = Estimate.of_share(80, 100), Estimate.of_share(100, 100)
    assert (some.mean, some.low, some.high) == pytest.approx((80.0, 71.11, 86.67), abs=0.02)
    assert (all_right.mean, all_right.high) == (100.0, 100.0)
    assert all_right.low == pytest.approx(96.30, abs=0.02), "certain answers are not certain"
    changed = with_right(kept[1], "LP", (30, 31))
    first, second = samples(changed.frame, **FIRST)[:, 0]
    found = interval(changed.frame, method="LP", **FIRST)
    assert found.mean == pytest.approx((first + second) / 2)
    assert found.high - found.mean == pytest.approx(12.706 * abs(first - second) / 2, rel=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    one = select(changed.frame, seed=1)
    assert interval(one, method="LP", **FIRST) == Estimate.of_share(30, 60)


def test_labels_belong_to_classes_also_where_drawings_are_shared() -> None:
    """In a batch, each query is of the class whose look bears its label."""
    for takes in (1, 2):
        pool = pool_of(TINY, 1)._replace(takes=takes)
        marks = torch.arange(len(pool.ink)) // pool.drawings  # each image shows its class
        pool = pool._replace(ink=marks.view(-1, 1, 1, 1).expand(-1, 1, 31, 31).to(torch.uint8))
        for meta_batch in meta_batches(pool, TINY, torch.Generator().manual_seed(0), CPU):
            (batch,) = meta_batch.batches
            shown = (255 * batch.images[:, 0, 0, 0]).round().long()
            for row in range(4):
                looks = shown[batch.support[row]].tolist()
                class_of = dict(zip(batch.labels[row].tolist(), looks, strict=True))
                assert len(set(class_of.values())) == 3
                asked = shown[batch.query[row]].tolist()
                assert asked == [class_of[target] for target in batch.targets[row].tolist()]
    with pytest.raises(ValueError, match="must be divisible"):
        next(meta_batches(pool, replace(TINY, shared=(6, 5)), torch.Generator(), CPU))


def test_theta_follows_the_bilevel_gradient_of_the_last_batch() -> None:
    """One step of plain θ descent = the hypergradient with batch -1 to learn, check to check."""
    objective = Objective("binary", Bilevel(second_order="first-order", rate=0.1, max_norm=None))
    settings = replace(AUTHORS, normalised=True, objective=objective)
    network, meta_batch = build(settings, HP).double().train(), first_meta_batch(settings)
    assert meta_batch.check is not None
    batches = [batch._replace(images=batch.images.double()) for batch in meta_batch.batches]
    check = meta_batch.check._replace(images=meta_batch.check.images.double())
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    before = [p.detach().clone() for p in network.meta_parameters()]
    descent = torch.optim.SGD(network.meta_parameters(), 1.0)
    meta_step(network, MetaBatch(batches, check), descent, objective)
    moved = [a - p.detach() for a, p in zip(before, network.meta_parameters(), strict=True)]
    for name, value in network.named_buffers():
        assert torch.equal(value, buffers[name]), "running statistics stay where they are"

    again = build(settings, HP).double().train()
    loss = batch_loss(again, batches[-1], "binary")
    steps = torch.autograd.grad(loss, again.weight_parameters())
    with torch.no_grad():
        for parameter, step in zip(again.weight_parameters(), steps, strict=True):
            parameter -= 0.1 * step
    direct = torch.autograd.grad(batch_loss(again, check, "binary"), again.meta_parameters())
    for ours, expected in zip(moved, direct, strict=True):
        torch.testing.assert_close(ours, expected)


def test_training_makes_new_classes_known() -> None:
    """HP after a few steps, on classes it never saw, against itself before."""
    settings = replace(
        TINY,
        channels=(16, 16, 32, 32),
        ways=5,
        shared=(20, 4),
        steps=15,
        schedule=replace(TINY.schedule, epochs=4, batch_size=10),
        test_episodes=600,
    )
    (trained, _), (untrained, _) = (compute(settings, method) for method in (HP, LP))
    rights = [r["tests"]["3-way 1-shot"]["right"] / 600 for r in (trained, untrained)]
    assert rights[0] > rights[1] + 0.1 > 1 / 3 + 0.1


def bilevel(**changes: Any) -> dict:
    return {"objective": Objective("cross-entropy", Bilevel(**changes))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"dataset": "runes"}, r"Settings\.dataset = 'runes': it must be one of glyphs"),
        (
            lambda: bilevel(second_order="second"),
            "it must be one of finite-difference, exact, first-order",
        ),
        (lambda: {"shared": (2, 9)}, r"FewShotSettings\.shared = \(2, 9\): it must be at least"),
        (lambda: {"flipped": 1.5}, r"in \[0, 1\]"),
        (lambda: {"ways": 1}, "it must be >= 2"),
        (lambda: {"tests": ()}, "at least one pair"),
        (lambda: {"tests": ((1, 1),)}, "ways >= 2"),
        (lambda: {"tests": ((5, 1), (13, 1))}, r"Settings\.unseen = 12: it must be >= 13"),
        (lambda: {"tests": ((11, 1),)}, r"Settings\.validation = 10: it must be >= 11"),
        (
            lambda: bilevel(second_order="exact"),
            r"Settings\.shared = \(6, 4\): it must be None unless θ learns with the weights",
        ),
        (lambda: {"schedule": replace(TINY.schedule, decay="steps")}, "milestones"),
        (lambda: {"steps": 0}, "it must be >= 1"),
        (lambda: {"objective": Objective("hinge")}, "Objective.loss = 'hinge'"),
    ],
)
def test_bad_constants_are_named(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change())


def test_all_planned_settings_are_valid_and_labelled_apart() -> None:
    for plan in plans.PLANS.values():
        planned = [settings for group in plan for settings in group.settings]
        assert len({settings.label for settings in planned}) == len(set(planned))
        for settings in planned:
            stored = as_json(settings)
            assert json.loads(json.dumps(stored)) == stored
            assert from_json(stored, KINDS) == settings


def test_command_line(kept: tuple[Path, Records[Any, Any]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    (found,) = kept[0].glob("few_shot/tiny-LP-seed2-*.json")
    (store / "few_shot").mkdir(parents=True)
    shutil.copy(found, store / "few_shot")
    arguments = ["run", "few_shot", "--method", "LP", "--store", str(store), "--jobs", "1"]
    outcome = CliRunner().invoke(cli.app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert len(list((store / "few_shot").glob("*.json"))) == 2
    outcome = CliRunner().invoke(cli.app, [*arguments, "--label", "huge"])
    assert outcome.exit_code == 1
    assert "label 'huge' is unknown: choose one of tiny" in outcome.output
