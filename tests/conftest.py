"""One thread and one instruction set in every test: the same bits wherever there is AVX2."""

import os

from hybrid.runs.instructions import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before torch is loaded

import torch

torch.set_num_threads(1)
