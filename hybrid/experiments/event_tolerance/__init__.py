"""Fault tolerance on event cameras (paper Fig. 3): recordings of faulty cameras."""

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import Method
from hybrid.experiments.event_tolerance.frames import hash_of_events, on_own
from hybrid.experiments.event_tolerance.plans import METHODS, PLANS
from hybrid.experiments.event_tolerance.run import TRAINING, build
from hybrid.experiments.event_tolerance.settings import EventSettings

EXPERIMENT: Experiment[EventSettings, Method] = Experiment(
    name="event_tolerance",
    notebook="03b_event_cameras",
    methods=METHODS,
    plans=PLANS,
    data_sha256=hash_of_events,
    build=build,
    begin=TRAINING.begin,
    read_by=__name__,
    on_own=on_own,
)
