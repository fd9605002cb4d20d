"""Fitting some weights of a model for a few minutes, where no small checkpoint is at hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

TOLD_STEPS = 25


def freeze_all_but(network: torch.nn.Module, parts: Sequence[str]) -> None:
    """Leave only the weights to train whose names have one of these parts."""
    for name, weights in network.named_parameters():
        weights.requires_grad_(any(part in name for part in parts))


def train(
    network: torch.nn.Module,
    loss_of_a_batch: Callable[[], torch.Tensor],
    steps: int,
    learning_rate: float,
) -> None:
    """Train what is not frozen, with AdamW and a rate that rises, then falls to zero.

    Args:
        network: The model; in evaluation mode at the end.
        loss_of_a_batch: Draws the next batch and returns its loss.
        steps: How many batches.
        learning_rate: The highest rate.
    """
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    for step in range(steps):
        loss = loss_of_a_batch()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % TOLD_STEPS == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    network.eval()
