"""From a classification config to its untrained network."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from hybrid.experiments.base import Method
from hybrid.experiments.classification_config import Config
from hybrid.model.coding import LastMembrane, Rank, Rate, ReadOut, in_parts, poisson
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import META_NAMES, Encode, FullyConnected, HybridNetwork
from hybrid.model.neurons import IF, LIF, AdaptiveLIF, Neuron
from hybrid.model.plasticity import STDP, Hebbian, LocalRule
from hybrid.runs.seeds import torch_stream


def build(config: Config, method: Method, seed: int) -> HybridNetwork:
    """Return the untrained network of a trial."""
    neuron, rule = _neuron(config), _rule(config) if method.local else None
    shared: dict[str, Any] = {
        "neuron": neuron,
        "rule": rule,
        "readout": _readout(config),
        "steps": config.steps,
        "tau": config.tau,
        "generator": torch_stream(seed, "initial values"),
        "meta_generator": torch_stream(seed, "initial meta-local values"),
        "initial_meta": InitialMeta(
            config.initial_gain, config.initial_rate, config.initial_threshold
        ),
    }
    network: HybridNetwork
    if config.convolutions:
        network = _convolutional(config, neuron, shared)
    else:
        inputs = 28 * 28 if config.view == "image" else 28 * 28 // config.steps
        network = FullyConnected(
            (inputs, *config.hidden, 10),
            plastic=config.plastic,
            encode=_encode(config),
            **shared,
        )
    if not method.hidden_trained:
        network.requires_grad_(False)
        network.layers[-1].requires_grad_(True)
    with torch.no_grad():
        network.layers[-1].weight.mul_(config.readout_scale)  # type: ignore[operator]
    _fix(network, config)
    return network


def _convolutional(config: Config, neuron: Neuron, shared: dict[str, Any]) -> Convolutional:
    readout = _neuron(replace(config, reset=config.readout_reset))
    sizes = (*config.hidden, 10)
    return Convolutional(
        (3, 32, 32) if config.dataset.startswith("cifar10") else (1, 28, 28),
        [Convolution(channels=c, pooled=p, dropout=d) for c, p, d in config.convolutions],
        [
            Dense(
                size=size,
                plastic=plastic,
                faded=config.fade_plastic or not plastic,
                dropout=0.0 if i else config.dense_dropout,
                neuron=readout if i == len(sizes) - 1 else neuron,
            )
            for i, (size, plastic) in enumerate(zip(sizes, config.plastic, strict=True))
        ],
        nonnegative_rate=config.nonnegative_rate,
        **shared,
    )


def _neuron(config: Config) -> Neuron:
    if config.neuron == "IF":
        return IF(v_th=config.v_th, reset=config.reset)
    kind = LIF if config.neuron == "LIF" else AdaptiveLIF
    return kind(decay=config.decay, v_th=config.v_th, reset=config.reset)


def _rule(config: Config) -> LocalRule:
    if config.rule == "stdp":
        return STDP(
            trace_decay=config.trace_decay,
            trace_clip=config.trace_clip,
            nominal_batch=config.batch_size,
        )
    return Hebbian(
        trace_decay=config.trace_decay,
        post=config.post,
        sign=config.sign,
        trace_clip=config.trace_clip,
        nominal_batch=config.batch_size,
    )


def _readout(config: Config) -> ReadOut:
    if config.answer == "rate":
        return Rate()
    if config.answer == "membrane":
        return LastMembrane(ceiling=config.ceiling)
    fraction = config.stop_fraction if config.answer == "rank-batch" else None
    return Rank(ceiling=config.ceiling, fraction=fraction)


def _encode(config: Config) -> Encode | None:
    if config.view != "image":
        return partial(in_parts, steps=config.steps)
    return partial(poisson, steps=config.steps) if config.code == "poisson" else None


def _fix(network: HybridNetwork, config: Config) -> None:
    """Take θ, or its gain alone, out of the hands of gradients."""
    if config.theta == "learned":
        return
    for name, parameter in network.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        if config.theta == "fixed" and kind in META_NAMES:
            parameter.requires_grad_(False)
        elif config.theta == "unit-gain" and kind == "local_gain":
            torch.nn.init.ones_(parameter)
            parameter.requires_grad_(False)
