"""Baseline heads: each formula, written out for one query."""

import torch
import torch.nn.functional as F

from hybrid.model.few_shot import Matching, Prototypes, Support

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(2, 6, 7, generator=GENERATOR)
LABELS = torch.tensor([[0, 2, 1, 1, 0, 2], [1, 1, 0, 2, 2, 0]])
QUERY = torch.randn(2, 4, 7, generator=GENERATOR)
SUPPORT = Support(FEATURES, LABELS)


def test_prototypes_score_by_distance_to_the_class_mean() -> None:
    scores = Prototypes(scale=0.5)(SUPPORT, QUERY, ways=3)
    assert scores.shape == (2, 4, 3)
    for episode in range(2):
        for label in range(3):
            mean = FEATURES[episode, LABELS[episode] == label].mean(0)
            expected = -0.5 * (QUERY[episode] - mean).square().sum(-1)
            torch.testing.assert_close(scores[episode, :, label], expected)


def test_matching_scores_are_log_probabilities_of_attended_labels() -> None:
    head = Matching(sharpness=3.0)
    scores = head(SUPPORT, QUERY, ways=3)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 4))
    cosine = F.cosine_similarity(QUERY[1, 2], FEATURES[1], dim=-1)
    attention = torch.softmax(3.0 * cosine, dim=0)
    for label in range(3):
        expected = attention[LABELS[1] == label].sum().log()
        torch.testing.assert_close(scores[1, 2, label], expected)
    scores.sum().backward()
    assert head.sharpness.grad is not None


def test_a_class_that_nobody_showed_gets_no_probability() -> None:
    for head in (Matching(), Prototypes()):
        scores = head(SUPPORT, QUERY, ways=4)
        assert torch.isneginf(scores[..., 3]).all()
        assert torch.isfinite(scores[..., :3]).all()
