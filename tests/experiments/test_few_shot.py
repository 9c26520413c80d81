"""The few-shot experiment: lessons, methods, tests on unseen classes, records, figure."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.data.characters import render_glyphs
from hybrid.experiments import few_shot as experiment
from hybrid.experiments import few_shot_figure, few_shot_lessons
from hybrid.experiments import few_shot_plans as plans
from hybrid.experiments.few_shot_config import Config
from hybrid.experiments.few_shot_lessons import bank_of, exercises, halves
from hybrid.experiments.few_shot_methods import GP, HEBBIAN, HP, LP, MAML, METHODS, NEAREST, build
from hybrid.experiments.few_shot_results import interval_of, measure
from hybrid.experiments.few_shot_tests import Examinee
from hybrid.experiments.plans import Group
from hybrid.experiments.trials import Trial
from hybrid.learning import episodic
from hybrid.learning.bilevel import Bilevel
from hybrid.learning.episodic import lesson_loss
from hybrid.model.few_shot import FewShot, FewShotReadOut, Support
from hybrid.runs.store import Store

CPU = torch.device("cpu")
TINY = Config(
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
    episodes=4,
    meta="joint",
    loss="cross-entropy",
    epochs=3,
    steps=4,
    lr_weight=3e-3,
    lr_meta=1e-3,
    lr_decay="cosine",
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
    episodes=1,
    meta="finite-difference",
    steps_per_check=2,
    loss="binary",
    lr_decay="halves",
    steps=2,
)


@pytest.fixture(autouse=True)
def few_characters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sixty classes instead of five hundred."""
    few_shot_lessons.characters_of.cache_clear()
    glyphs = render_glyphs(list(range(ord("0"), ord("9") + 1)) + list(range(0x410, 0x442)))
    monkeypatch.setattr(few_shot_lessons, "load_characters", lambda name: glyphs)
    yield
    few_shot_lessons.characters_of.cache_clear()


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke profile that takes seconds."""
    names = tuple(method.name for method in METHODS if method is not MAML)
    tiny = (Group(configs=(TINY,), methods=names, seeds=2),)
    monkeypatch.setitem(plans.PLANS, "smoke", tiny)


def first_exercise(config: Config) -> few_shot_lessons.Exercise:
    bank = bank_of(config, 1)
    return next(exercises(bank, config, torch.Generator().manual_seed(0), CPU))


@pytest.mark.parametrize("config", [TINY, AUTHORS])
def test_jittered_drawings_keep_their_paper(config: Config) -> None:
    """What comes into sight at the border is as white as the page, in support and query."""
    still = replace(config, jitter=(0.0, 0.0, 0.0), flipped=0.0)
    plain = first_exercise(still).lessons[0].images
    moved = first_exercise(replace(still, jitter=(10.0, 0.1, 2.0))).lessons[0].images
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
    config = Config(label="authors")
    network = build(config, HP, 1)
    assert isinstance(network, FewShot)
    head = network.head
    assert isinstance(head, FewShotReadOut)
    assert [m.weight.shape[0] for m in network.embedding.convolutions] == [128] * 4
    assert head.weight.shape[1] == 512
    assert (head.neuron.v_th, head.neuron.decay, head.neuron.reset) == (0.5, 0.2, "zero")
    assert (head.label_current, head.largest_rate) == (10.0, 0.1)
    assert head.rule is not None
    assert (head.rule.trace_decay, head.rule.post) == (0.99, "softmax")
    teaching = config.teaching()
    assert teaching.loss == "binary"
    assert teaching.bilevel is not None
    assert (teaching.bilevel.rate, teaching.bilevel.lookahead) == (0.1, False)
    schedule = config.schedule()
    assert (schedule.lr_weight, schedule.lr_meta, schedule.eps) == (8e-5, 3e-5, 1e-6)
    assert [schedule.share(epoch) for epoch in range(3)] == [1.0, 0.5, 0.25]
    assert config.steps == 10_000, "rates halve each 10,000 iterations"


def test_methods_of_a_seed_start_from_one_embedding() -> None:
    methods = [method for method in METHODS if method is not NEAREST]
    networks = [build(replace(TINY, normalised=False), method, 1) for method in methods]
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
    exercise = first_exercise(TINY)
    (lesson,) = exercise.lessons
    assert exercise.check is None
    assert len(lesson.images) <= 6 * 4
    assert lesson.support.shape == (4, 3)
    assert lesson.query.shape == (4, 2)
    assert lesson.images.min() >= 0.0
    assert lesson.images.max() <= 1.0


def test_theta_is_checked_on_other_drawings_of_the_same_classes() -> None:
    bank, source = bank_of(AUTHORS, 1), np.random.default_rng(0)
    episodes = few_shot_lessons.sample_episodes(
        bank.split.train, bank.drawings, 20, ways=3, shots=4, queries=2, generator=source
    )
    config = replace(AUTHORS, shots=2)
    learned, checked = halves(episodes, config)
    for first, second in ((learned, checked), (checked, learned)):
        assert first.support.shape == (20, 6)
        for row in range(20):
            used = {*first.support[row], *first.query[row]}
            assert not used & {*second.support[row], *second.query[row]}
            class_of = dict(zip(first.labels[row], first.support[row] // 12, strict=True))
            other = dict(zip(second.labels[row], second.support[row] // 12, strict=True))
            assert class_of == other
            assert first.query[row, 0] // 12 == class_of[first.targets[row, 0]]
    exercise = first_exercise(AUTHORS)
    assert len(exercise.lessons) == 2
    assert exercise.check is not None
    assert exercise.check.support.shape == exercise.lessons[0].support.shape == (1, 3)
    assert exercise.lessons[0].images.max() > 0.2, "white is the highest value"
    assert exercise.lessons[0].images.min() < -2.0


def test_no_class_is_learned_from_and_tested_on() -> None:
    config = replace(TINY, rotations=True)
    bank = bank_of(config, 1)
    base = {number % 60 for number in bank.split.train}
    assert len(bank.split.train) == 4 * len(base)
    assert not base & {*bank.split.test, *bank.split.validation}
    other = bank_of(config, 2).split.test
    assert set(other) != set(bank.split.test), "seeds differ in their classes"


def test_batched_episodes_equal_one_at_a_time() -> None:
    """Outputs to 1e-6; the sum of the gradients, too."""
    config = replace(TINY, normalised=False, episodes=6)
    network = build(config, HP, 1).double()
    (lesson,) = first_exercise(config).lessons
    lesson = lesson._replace(images=lesson.images.double())
    loss = lesson_loss(network, lesson, "cross-entropy")
    loss.backward()
    together = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    losses = []
    for row in range(6):
        rows = slice(row, row + 1)
        alone = lesson._replace(
            support=lesson.support[rows],
            labels=lesson.labels[rows],
            query=lesson.query[rows],
            targets=lesson.targets[rows],
        )
        losses.append(lesson_loss(network, alone, "cross-entropy"))
        (losses[-1] / 6).backward()
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    one_by_one = [p.grad for p in network.parameters() if p.grad is not None]
    for a, b in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_trace_there_is_nothing_but_chance() -> None:
    network = build(TINY, GP, 1)
    (lesson,) = first_exercise(TINY).lessons
    features = network.embedding(lesson.images)
    bound = network.head.bind(Support(features[lesson.support], lesson.labels), ways=3)
    assert bound.final.trace is None
    bank = bank_of(TINY, 1)
    examinee = Examinee.of(network, bank, bank.split.test, TINY, CPU)
    episodes = examinee.episodes(4_000, 5, 1, np.random.default_rng(0))
    assert abs(examinee.answers(episodes, 5).mean() - 0.2) < 0.025


@pytest.mark.parametrize("config", [TINY, AUTHORS], ids=lambda config: config.label)
def test_a_stopped_trial_goes_on_to_the_same_end(config: Config, tmp_path: Path) -> None:
    if config.lr_decay == "cosine":  # rates depend on the number of epochs there
        config = replace(config, lr_decay="none")
    trial = Trial(experiment.EXPERIMENT, config, HP, 1)
    expected, network = experiment.EXPERIMENT.run(trial, CPU)
    checkpoint = tmp_path / "checkpoint.safetensors"
    shorter = replace(trial, config=replace(config, epochs=1))
    experiment.EXPERIMENT.run(shorter, CPU, checkpoint)
    resumed, again = experiment.EXPERIMENT.run(trial, CPU, checkpoint)
    assert resumed == expected
    for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("meta", ["joint", "finite-difference", "exact", "first-order"])
def test_theta_learns_in_each_way_and_hebbian_keeps_it(meta: str) -> None:
    config = replace(AUTHORS, meta=meta, lr_meta=1e-2, epochs=1)  # type: ignore[arg-type]
    for method in (HP, HEBBIAN):
        trial = Trial(experiment.EXPERIMENT, config, method, 1)
        start = build(config, method, 1).head.theta.mixing.detach().clone()
        _, network = experiment.EXPERIMENT.run(trial, CPU)
        moved = (network.head.theta.mixing - start).abs().max().item()
        assert moved > 1e-3 if method is HP else moved == 0.0
        assert torch.isfinite(network.head.theta.mixing).all()


def test_intervals_end_where_accuracies_do(plan: None) -> None:
    result = experiment.run("smoke", methods=["nearest"], device="cpu")
    for record, right in zip(result.records, (60, 50), strict=True):
        record["result"]["tests"]["3-way 1-shot"]["right"] = right
    found = result.interval("tiny", "nearest", "3-way 1-shot")
    assert (found.low, found.high) == (0.0, 100.0), "two seeds say little"


def test_records_are_read_back_and_drawn(plan: None, tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = experiment.run("smoke", store=store, device="cpu")
    assert len(result.records) == 2 * 7
    again = experiment.load("smoke", folder=tmp_path)
    assert again.labels() == ("tiny",)
    assert set(again.methods("tiny")) == {method.name for method in METHODS if method is not MAML}
    assert again.sizes("tiny", "HP") == ("3-way 1-shot", "12-way 2-shot")
    for name in again.methods("tiny"):
        np.testing.assert_array_equal(
            again.accuracy("tiny", name, "3-way 1-shot"),
            result.accuracy("tiny", name, "3-way 1-shot"),
        )
    episodes, learning = again.learning("tiny", "HP")
    assert episodes.tolist() == [16.0, 32.0, 48.0]
    assert learning.shape == (2, 3)
    assert again.learning("tiny", "LP")[1].shape == (2, 0)
    assert "few_shot/tiny/3-way 1-shot/HP" in measure(again)
    example = again.example("tiny")
    assert np.array(example["traces"]).shape == (3, 3, 48)
    first_look = np.array(example["traces"])[0]
    shown = example["labels"][0]
    assert np.abs(first_look[shown]).max() > 100 * np.abs(np.delete(first_look, shown, 0)).max()

    figure = few_shot_figure.draw(again)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert "Unseen classes" in panels
    bars = panels["Unseen classes"].patches
    assert len(bars) == 2 * 7
    expected = again.accuracy("tiny", "LP", "3-way 1-shot").mean()
    np.testing.assert_allclose(bars[0].get_height(), expected)
    for axes in figure.axes:
        for label in (axes.get_xlabel(), axes.get_ylabel()):
            assert label == "" or label[0].islower()


def test_maml_learns_and_is_asked_without_shared_features() -> None:
    config = replace(TINY, epochs=1, steps=1, episodes=2, test_episodes=6, validation_episodes=4)
    result, network = experiment.EXPERIMENT.run(Trial(experiment.EXPERIMENT, config, MAML, 1), CPU)
    assert not network.embedding.normalised
    assert result["tests"]["3-way 1-shot"]["episodes"] == 6
    assert "theta" not in result["examined"]
    assert np.isfinite(result["epochs"][0]["loss"])


def test_lp_learns_nothing_by_gradients() -> None:
    result, network = experiment.EXPERIMENT.run(Trial(experiment.EXPERIMENT, TINY, LP, 1), CPU)
    assert result["epochs"] == []
    assert not any(p.requires_grad for p in network.parameters())


def test_intervals_of_one_seed_are_wilsons_and_of_several_students(
    plan: None, tmp_path: Path
) -> None:
    interval = interval_of(80, 100)
    assert interval == pytest.approx((80.0, 71.11, 86.67), abs=0.02)
    percent, low, high = interval_of(100, 100)
    assert (percent, high) == (100.0, 100.0)
    assert low == pytest.approx(96.30, abs=0.02), "certain answers are not certain"
    result = experiment.run("smoke", methods=["LP"], device="cpu")
    for record, right in zip(result.records, (30, 31), strict=True):
        record["result"]["tests"]["3-way 1-shot"]["right"] = right
    first, second = result.accuracy("tiny", "LP", "3-way 1-shot")
    percent, low, high = result.interval("tiny", "LP", "3-way 1-shot")
    assert percent == pytest.approx((first + second) / 2)
    assert high - percent == pytest.approx(12.706 * abs(first - second) / 2, rel=1e-3)
    assert percent - low == pytest.approx(high - percent)


def test_labels_belong_to_classes_also_where_drawings_are_shared() -> None:
    """In a lesson, each query is of the class whose look bears its label."""
    for takes in (1, 2):
        bank = bank_of(TINY, 1)._replace(takes=takes)
        marks = torch.arange(len(bank.ink)) // bank.drawings  # each image shows its class
        bank = bank._replace(ink=marks.view(-1, 1, 1, 1).expand(-1, 1, 31, 31).to(torch.uint8))
        for exercise in exercises(bank, TINY, torch.Generator().manual_seed(0), CPU):
            (lesson,) = exercise.lessons
            shown = (255 * lesson.images[:, 0, 0, 0]).round().long()
            for row in range(4):
                looks = shown[lesson.support[row]].tolist()
                class_of = dict(zip(lesson.labels[row].tolist(), looks, strict=True))
                assert len(set(class_of.values())) == 3
                asked = shown[lesson.query[row]].tolist()
                assert asked == [class_of[target] for target in lesson.targets[row].tolist()]
    with pytest.raises(ValueError, match="must be divisible"):
        next(exercises(bank, replace(TINY, shared=(6, 5)), torch.Generator(), CPU))


def test_theta_follows_the_bilevel_gradient_of_the_last_lesson() -> None:
    """One step of plain θ descent = the hypergradient with lesson -1 to learn, check to check."""
    config = replace(AUTHORS, normalised=True, clamp=None, max_norm=None, lookahead=True)
    network, exercise = build(config, HP, 1).double().train(), first_exercise(config)
    assert exercise.check is not None
    lessons = [lesson._replace(images=lesson.images.double()) for lesson in exercise.lessons]
    check = exercise.check._replace(images=exercise.check.images.double())
    exercise = few_shot_lessons.Exercise(lessons, check)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    teaching = replace(
        config.teaching(), bilevel=Bilevel(second_order="first-order", max_norm=None)
    )
    before = [p.detach().clone() for p in network.meta_parameters()]
    episodic.teach_meta(
        network, exercise, torch.optim.SGD(network.meta_parameters(), 1.0), teaching
    )
    moved = [a - p.detach() for a, p in zip(before, network.meta_parameters(), strict=True)]
    for name, value in network.named_buffers():
        assert torch.equal(value, buffers[name]), "running statistics stay where they are"

    again = build(config, HP, 1).double().train()
    loss = lesson_loss(again, lessons[-1], "binary")
    steps = torch.autograd.grad(loss, again.weight_parameters())
    with torch.no_grad():
        for parameter, step in zip(again.weight_parameters(), steps, strict=True):
            parameter -= 0.1 * step
    direct = torch.autograd.grad(lesson_loss(again, check, "binary"), again.meta_parameters())
    for ours, expected in zip(moved, direct, strict=True):
        torch.testing.assert_close(ours, expected)


def test_training_makes_new_classes_known() -> None:
    """HP after a few steps, on classes it never saw, against itself before."""
    config = replace(
        TINY,
        channels=(16, 16, 32, 32),
        ways=5,
        shared=(20, 4),
        episodes=10,
        epochs=4,
        steps=15,
        test_episodes=600,
    )
    (trained, _), (untrained, _) = (
        experiment.EXPERIMENT.run(Trial(experiment.EXPERIMENT, config, method, 1), CPU)
        for method in (HP, LP)
    )
    rights = [r["tests"]["3-way 1-shot"]["right"] / 600 for r in (trained, untrained)]
    assert rights[0] > rights[1] + 0.1 > 1 / 3 + 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "runes"}, r"Config\.dataset = 'runes': it must be one of glyphs"),
        ({"meta": "second"}, "it must be one of joint, finite-difference, exact, first-order"),
        ({"shared": (2, 9)}, r"Config\.shared = \(2, 9\): it must be at least"),
        ({"flipped": 1.5}, r"in \[0, 1\]"),
        ({"ways": 1}, "it must be >= 2"),
        ({"tests": ()}, "at least one pair"),
        ({"tests": ((1, 1),)}, "ways >= 2"),
        ({"tests": ((5, 1), (13, 1))}, r"Config\.unseen = 12: it must be >= 13"),
        ({"tests": ((11, 1),)}, r"Config\.validation = 10: it must be >= 11"),
        ({"meta": "exact"}, r"Config\.shared = \(6, 4\): it must be None unless meta is 'joint'"),
        ({"lr_decay": "steps"}, "milestones"),
        ({"steps": 0}, "it must be >= 1"),
    ],
)
def test_bad_constants_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]


def test_all_planned_configs_are_valid_and_labelled_apart() -> None:
    for plan in plans.PLANS.values():
        configs = {config for group in plan for config in group.configs}
        assert len({config.label for config in configs}) == len(configs)
        for config in configs:
            assert json.loads(json.dumps(config.as_json())) == config.as_json()


def test_command_line(plan: None, tmp_path: Path) -> None:
    arguments = ["run", "few_shot", "--method", "LP", "--store", str(tmp_path), "--jobs", "1"]
    outcome = CliRunner().invoke(cli.app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert len(list((tmp_path / "few_shot").glob("*.json"))) == 2
    outcome = CliRunner().invoke(cli.app, [*arguments, "--config", "huge"])
    assert outcome.exit_code == 1
    assert "config 'huge' is unknown: choose among tiny" in outcome.output
