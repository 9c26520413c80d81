"""What each profile of the deployment experiment runs."""

from hybrid.experiments.base import Profile
from hybrid.experiments.deployment_config import Config
from hybrid.experiments.plans import Group, Plan

_FAULTS = (
    ("gaussian", (0.0, 0.02, 0.04, 0.06)),
    ("crop", (2.0, 4.0, 6.0)),
)
PLANS: dict[Profile, Plan] = {
    "smoke": (
        Group(
            configs=(
                Config(
                    label="digits",
                    base="fault_tolerance",
                    profile="smoke",
                    trained_label="digits",
                    faults=_FAULTS,
                    bits=(8, 4, 3),
                    rewritten=40,
                ),
            ),
            methods=("LP", "GP", "HP"),
            seeds=1,
        ),
    ),
    "laptop": (
        Group(
            configs=(
                Config(
                    label="fashion_mnist",
                    base="fault_tolerance",
                    profile="laptop",
                    trained_label="fashion_mnist",
                    faults=_FAULTS,
                ),
            ),
            methods=("LP", "GP", "HP"),
            seeds=3,
        ),
        Group(
            configs=(
                Config(
                    label="omniglot",
                    base="few_shot",
                    profile="laptop",
                    trained_label="omniglot",
                ),
            ),
            methods=("LP", "GP", "HP"),
            seeds=3,
        ),
        Group(
            configs=(
                Config(
                    label="permuted-mnist",
                    base="continual",
                    profile="laptop",
                    trained_label="mnist",
                ),
            ),
            methods=("LP", "GP", "HP"),
            seeds=3,
        ),
    ),
    "paper": (
        Group(
            configs=(
                Config(
                    label="fashion_mnist",
                    base="fault_tolerance",
                    profile="paper",
                    trained_label="fashion_mnist",
                    faults=_FAULTS,
                ),
            ),
            methods=("LP", "GP", "HP", "HP-sample"),
            seeds=3,
        ),
    ),
}
