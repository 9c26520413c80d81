"""What each profile of the few-shot experiment runs."""

from dataclasses import replace

from hybrid.data.augment import Jitter
from hybrid.experiments.core.experiment import Group, Plan, Profile
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.bilevel import Bilevel
from hybrid.learning.episodic import Objective
from hybrid.learning.schedule import Schedule
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian

# The authors' constants, but for this: they learn from all classes that are not tested, here 100 of
# these are held out; and their GP keeps its random mixing, which is trained here.
AUTHORS = FewShotSettings(
    label="omniglot-authors",
    dataset="omniglot",
    validation=100,
    ink="authors",
    flipped=0.2,
    channels=(128, 128, 128, 128),
    neuron=LIF(decay=0.2, v_th=0.5, reset="zero"),
    rule=Hebbian(trace_decay=0.99, post="softmax"),
    label_current=10.0,
    largest_rate=0.1,
    ways=5,
    queries=1,
    objective=Objective("binary", Bilevel(rate=0.1, lookahead=False)),
    steps=10_000,
    schedule=Schedule(
        epochs=100,
        batch_size=1,
        lr_weight=8e-5,
        lr_meta=3e-5,
        eps=1e-6,
        decay="halves",
        decay_meta=True,
    ),
    tests=((5, 1), (5, 5)),
)
# Ours, where the authors' plain embedding would take days to learn: normalised layers, feature
# vectors of one length, the usual cross-entropy, several queries an episode, and drawings that
# are embedded once for all episodes of a step.
_QUICK = replace(
    AUTHORS,
    ink="unit",
    flipped=0.0,
    channels=(64, 64, 64, 64),
    normalised=True,
    length=10.0,
    label_current=100.0,
    largest_rate=1.0,
    ways=20,
    queries=2,
    shared=(80, 3),
    objective=Objective("cross-entropy"),
    schedule=replace(AUTHORS.schedule, batch_size=40, lr_weight=3e-3, lr_meta=1e-3, decay="cosine"),
    tests=((5, 1), (5, 5), (20, 1), (20, 5)),
)
SMOKE = replace(
    _QUICK,
    label="glyphs",
    dataset="few_glyphs",
    channels=(32, 32, 32, 32),
    ways=10,
    shared=(40, 3),
    steps=10,
    schedule=replace(_QUICK.schedule, epochs=5, batch_size=20),
    tests=((5, 1), (5, 5), (10, 1)),
    test_episodes=1_000,
    validation_episodes=500,
)
# Chosen on validation classes (seed 101): rectified units learn several times faster than tanh, and
# jitter narrows the gap between classes that are trained and classes that are not.
OMNIGLOT = replace(
    _QUICK,
    label="omniglot",
    rotations=True,
    jitter=Jitter(10.0, 0.1, 2.0),
    channels=(32, 64, 128, 128),
    activation="relu",
    steps=400,
    schedule=replace(_QUICK.schedule, epochs=20),
)
_STANDARD = replace(OMNIGLOT, label="omniglot-standard", split="standard")
# MAML embeds each episode anew at each of its gradient steps: fewer and smaller episodes.
_MAML = replace(
    OMNIGLOT,
    label="omniglot-MAML",
    ways=5,
    queries=5,
    shared=None,
    steps=200,
    schedule=replace(OMNIGLOT.schedule, batch_size=8, lr_weight=1e-3),
    tests=((5, 1),),
    validation_episodes=200,
)
# 36 classes, two recordings of each: seeds differ in the twelve that are left out.
_ATIS = replace(
    _QUICK,
    label="atis",
    dataset="atis",
    validation=6,
    unseen=12,
    channels=(32, 32, 32, 32),
    ways=12,
    shared=(18, 4),
    steps=50,
    schedule=replace(_QUICK.schedule, epochs=5, batch_size=20),
    tests=((5, 1), (5, 5), (12, 1)),
)

PLANS: dict[Profile, Plan[FewShotSettings]] = {
    "smoke": (
        Group(
            settings=(SMOKE,),
            methods=("LP", "GP", "HP", "Hebbian", "prototypes", "matching"),
            seeds=1,
        ),
    ),
    "laptop": (
        Group(settings=(OMNIGLOT,), methods=("LP", "GP", "HP", "nearest"), seeds=5),
        Group(settings=(OMNIGLOT,), methods=("Hebbian", "prototypes", "matching"), seeds=3),
        Group(settings=(_MAML,), methods=("MAML",), seeds=3),
        Group(
            settings=(_ATIS,),
            methods=("LP", "GP", "HP", "Hebbian", "prototypes", "matching", "nearest"),
            seeds=5,
        ),
    ),
    "paper": (
        Group(settings=(AUTHORS,), methods=("GP", "HP"), seeds=3),
        Group(settings=(_STANDARD,), methods=("GP", "HP", "prototypes", "matching"), seeds=3),
    ),
}
