"""One thread in every test: the same bits on any machine, and no fight over busy cores."""

import torch

torch.set_num_threads(1)
