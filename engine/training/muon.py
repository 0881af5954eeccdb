"""Muon for the matrices of new layers and AdamW for all other parameters, as one optimizer with one state."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# Coefficients of Jordan's quintic iteration (https://kellerjordan.github.io/posts/muon/). It is steep at 0, so small
# singular values grow fast. Its result is between 0.7 and 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_EPS = 1e-7
ADAMW_RMS = 0.2  # RMS of AdamW's updates divided by their learning rate, as measured by Liu et al.


class MuonAdamW(torch.optim.Optimizer):
    """Parameter groups with `muon=True` are updated by Muon, the others as by torch.optim.AdamW.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the
    nearest orthogonal one, so that all directions of a layer learn at one rate. Updates have the same size as AdamW's
    (Liu et al., "Muon is Scalable for LLM Training", 2025), so Muon and AdamW share the learning rate, its schedule and
    the decoupled weight decay. A convolution's kernel (out, in, k, k) is the matrix (out, in * k * k).

    Args:
        params: groups of `engine.training.param_groups.param_groups`, or parameters, which are updated by AdamW.
        lr, weight_decay: defaults for groups.
        betas, eps: settings of AdamW.
        momentum: Nesterov momentum of Muon.

    Raises:
        ValueError: a setting is out of range, or a group with `muon=True` has a parameter that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"MuonAdamW: {name} must be at least 0, got {value}")
        for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1]), ("momentum", momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"MuonAdamW: {name} must be at least 0 and below 1, got {value}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults | {"muon": False})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        vectors = [tuple(parameter.shape) for parameter in group["params"] if parameter.ndim < 2]
        if group["muon"] and vectors:
            raise ValueError(f"MuonAdamW: Muon needs matrices or convolution kernels, got shapes {vectors[:4]}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient, and return the result of `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["muon"]:
                for alike in _by_matrix_shape(parameters):
                    self._muon(alike, group)
            elif parameters:
                self._adamw(parameters, group)
        return loss

    def _muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Update parameters whose matrices have one shape together, because starting kernels takes most of the time."""
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"]
            buffer.lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(parameter.grad.lerp(buffer, group["momentum"]).flatten(1))  # (out, in * k * k)
        updates = orthogonalise(torch.stack(updates)).unbind() if len(updates) > 1 else [orthogonalise(updates[0])]
        scale = ADAMW_RMS * max(updates[0].shape) ** 0.5  # an orthogonal matrix has an RMS of 1 / sqrt(its longer side)
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _adamw(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)  # on the CPU, as in torch.optim.AdamW
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalise(matrix: Tensor) -> Tensor:
    """Move all singular values of (rows, columns) close to 1 and keep the singular vectors; a zero matrix stays zero.

    The Newton-Schulz iteration is in bfloat16, for which its coefficients were chosen. Singular values end between 0.7
    and 1.2; those below about 1e-3 of the Frobenius norm end smaller.

    Args:
        matrix: (rows, columns), or a stack of matrices (N, rows, columns), which are processed separately.

    Returns:
        A tensor of the same shape and dtype.
    """
    a, b, c = NEWTON_SCHULZ
    add_product = torch.addmm if matrix.ndim == 2 else torch.baddbmm
    is_wide = matrix.shape[-2] <= matrix.shape[-1]
    x = (matrix if is_wide else matrix.mT).bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=NEWTON_SCHULZ_EPS)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        polynomial = add_product(gram, gram, gram, beta=b, alpha=c)
        x = add_product(x, polynomial, x, beta=a)
    return (x if is_wide else x.mT).to(matrix.dtype)


def _by_matrix_shape(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    groups: dict[tuple[int, int], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
    return groups.values()
