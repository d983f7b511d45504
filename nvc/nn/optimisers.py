"""Muon for weight matrices beside Adam for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: torch.Tensor, *, rounds: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2.

    (rows, columns) -> same shape and dtype. Newton-Schulz rounds with the quintic of Jordan et al.,
    "Muon", 2024; bfloat16 on CUDA, the matrix's own type elsewhere.
    """
    a, b, c = _QUINTIC
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024); matrices only.

    The step of a (rows, columns) matrix is lr * sqrt(max(1, rows / columns)).
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], *, lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update from the gradients; `closure`, when given, is run first."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - momentum)
                update = parameter.grad.lerp(state["momentum"], momentum)
                rows, columns = parameter.shape
                size = group["lr"] * math.sqrt(max(1.0, rows / columns))
                parameter.add_(orthogonalise(update), alpha=-size)
        return result


class MuonAndAdam(torch.optim.Optimizer):
    """Muon for some matrices and AdamW for the rest behind one optimiser, as schedulers want it.

    `matrices` step with `matrix_lr`; `groups` are AdamW parameter groups with their own lr. The
    first parameter group is Muon's.
    """

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        groups: list[dict[str, Any]],
        *,
        matrix_lr: float,
        momentum: float = 0.95,
    ) -> None:
        self.muon = Muon(matrices, lr=matrix_lr, momentum=momentum)
        self.adam = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
        super().__init__([{"params": matrices, "lr": matrix_lr}, *groups], {})
        # The same dictionaries, so that a scheduler's change of a rate reaches the one that steps.
        self.param_groups = [*self.muon.param_groups, *self.adam.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of both; `closure`, when given, is run first."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.muon.step()
        self.adam.step()
        return result

    def state_dict(self) -> dict[str, Any]:
        """Both states; plain tensors and numbers."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what state_dict gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])
        self.param_groups = [*self.muon.param_groups, *self.adam.param_groups]
