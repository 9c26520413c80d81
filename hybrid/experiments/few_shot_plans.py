"""What each profile of the few-shot experiment runs."""

from dataclasses import replace

from hybrid.experiments.base import Profile
from hybrid.experiments.few_shot_config import Config
from hybrid.experiments.plans import Group, Plan

# Ours, where the authors' plain embedding would take days to learn: normalised layers, feature
# vectors of one length, the usual cross-entropy, several queries an episode, and drawings that
# are embedded once for all episodes of a step.
_QUICK = Config(
    label="quick",
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
    episodes=40,
    meta="joint",
    loss="cross-entropy",
    lr_weight=3e-3,
    lr_meta=1e-3,
    lr_decay="cosine",
    tests=((5, 1), (5, 5), (20, 1), (20, 5)),
)
_SMOKE = replace(
    _QUICK,
    label="glyphs",
    dataset="few_glyphs",
    channels=(32, 32, 32, 32),
    ways=10,
    shared=(40, 3),
    episodes=20,
    epochs=5,
    steps=10,
    tests=((5, 1), (5, 5), (10, 1)),
    test_episodes=1_000,
    validation_episodes=500,
)
# Chosen on validation classes (seed 101): rectified units learn several times faster than tanh, and
# jitter narrows the gap between classes that are trained and classes that are not.
_OMNIGLOT = replace(
    _QUICK,
    label="omniglot",
    rotations=True,
    jitter=(10.0, 0.1, 2.0),
    channels=(32, 64, 128, 128),
    activation="relu",
    epochs=20,
    steps=400,
)
_STANDARD = replace(_OMNIGLOT, label="omniglot-standard", split="standard")
# MAML embeds each episode anew at each of its gradient steps: fewer and smaller episodes.
_MAML = replace(
    _OMNIGLOT,
    label="omniglot-MAML",
    ways=5,
    queries=5,
    shared=None,
    episodes=8,
    steps=200,
    lr_weight=1e-3,
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
    episodes=20,
    epochs=5,
    steps=50,
    tests=((5, 1), (5, 5), (12, 1)),
)
_AUTHORS = Config(label="omniglot-authors")

PLANS: dict[Profile, Plan] = {
    "smoke": (
        Group(
            configs=(_SMOKE,),
            methods=("LP", "GP", "HP", "Hebbian", "prototypes", "matching"),
            seeds=1,
        ),
    ),
    "laptop": (
        Group(configs=(_OMNIGLOT,), methods=("LP", "GP", "HP", "nearest"), seeds=5),
        Group(configs=(_OMNIGLOT,), methods=("Hebbian", "prototypes", "matching"), seeds=3),
        Group(configs=(_MAML,), methods=("MAML",), seeds=3),
        Group(
            configs=(_ATIS,),
            methods=("LP", "GP", "HP", "Hebbian", "prototypes", "matching", "nearest"),
            seeds=5,
        ),
    ),
    "paper": (
        Group(configs=(_AUTHORS,), methods=("GP", "HP"), seeds=3),
        Group(configs=(_STANDARD,), methods=("GP", "HP", "prototypes", "matching"), seeds=3),
    ),
}
