"""Muon and AdamW in one optimizer against PyTorch's own of each, singular values, and a stopped and resumed run."""

import io

import pytest
import torch
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from engine.training.muon import MuonAdamW, orthogonalise

SHAPES = [(20, 30), (40, 12), (16, 16)]
needs_torch_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has no Muon before 2.9")


def parameters(shapes=SHAPES, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def draw_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


@needs_torch_muon
def test_matrices_go_as_in_torch_s_muon():
    ours, theirs = parameters(), parameters()
    optimizer = MuonAdamW([{"params": ours, "muon": True}], lr=0.02, weight_decay=0.1, momentum=0.9)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(12):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] = 0.02 / (1 + step)
        draw_gradients(ours, step)
        draw_gradients(theirs, step)
        optimizer.step()
        reference.step()
    assert_equal(ours, theirs)


@needs_torch_muon
@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (48, 4, 3, 3), (16, 32, 1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_goes_as_the_matrix_of_its_kernels(shape, memory_format):
    (kernel,), (matrix,) = parameters([shape]), parameters([shape])
    kernel.data = kernel.data.to(memory_format=memory_format)
    matrix = nn.Parameter(matrix.detach().reshape(shape[0], -1))
    optimizer = MuonAdamW([{"params": [kernel], "muon": True}], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        draw_gradients([kernel], step)
        matrix.grad = kernel.grad.reshape(matrix.shape).clone()
        kernel.grad = kernel.grad.to(memory_format=memory_format)
        optimizer.step()
        reference.step()
    assert_equal([kernel.reshape(matrix.shape)], [matrix])


def test_the_other_groups_go_as_in_torch_s_adamw():
    shapes = [(7,), (5, 3), (2, 3, 4, 4)]
    ours, theirs = parameters(shapes), parameters(shapes)
    settings = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}
    (matrix,) = parameters([(4, 6)], seed=1)
    groups = [{"params": ours[:2]}, {"params": [matrix], "muon": True}, {"params": ours[2:], "weight_decay": 0.0}]
    optimizer = MuonAdamW(groups, **settings)
    reference = torch.optim.AdamW([{"params": theirs[:2]}, {"params": theirs[2:], "weight_decay": 0.0}], **settings)
    for step in range(20):
        draw_gradients(ours, step)
        draw_gradients(theirs, step)
        if step % 3 == 0:  # a parameter without a gradient stands still and keeps its count of steps
            ours[1].grad = theirs[1].grad = None
        draw_gradients([matrix], 100 + step)
        optimizer.step()
        reference.step()
    assert_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(64, 288), (288, 64), (48, 36), (5, 5), (2, 500)])
def test_singular_values_become_about_one_and_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    got = orthogonalise(matrix)
    on_vectors = u.T @ got @ v.T
    significant = values > 0.02 * values.norm()
    assert on_vectors.diagonal()[significant].min() > 0.6
    assert on_vectors.diagonal().max() < 1.3
    assert (on_vectors - on_vectors.diagonal().diag()).abs().max() < 0.05
    assert got.dtype == matrix.dtype


def test_the_update_has_the_size_of_adamw_s():
    """0.2 of the learning rate in root mean square, whatever the shape: an orthogonal m x n matrix has n^-1/2."""
    for shape in [(64, 64), (32, 256), (64, 16, 3, 3)]:
        (parameter,) = parameters([shape])
        before = parameter.detach().clone()
        optimizer = MuonAdamW([{"params": [parameter], "muon": True}], lr=0.01, weight_decay=0.0)
        draw_gradients([parameter], 0)
        optimizer.step()
        rms = (parameter - before).square().mean().sqrt().item()
        assert rms == pytest.approx(0.2 * 0.01, rel=0.25), shape


def test_a_zero_gradient_moves_nothing_and_decay_shrinks_by_lr_times_decay():
    (parameter,) = parameters([(6, 8)])
    before = parameter.detach().clone()
    optimizer = MuonAdamW([{"params": [parameter], "muon": True}], lr=0.5, weight_decay=0.1)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), 0.95 * before)


def mixed(seed: int = 0) -> tuple[list[nn.Parameter], MuonAdamW]:
    model = parameters([*SHAPES, (8, 4, 3, 3), (9,), (3, 5)], seed)
    groups = [{"params": model[:4], "muon": True, "lr": 0.02}, {"params": model[4:], "weight_decay": 0.0}]
    return model, MuonAdamW(groups, lr=0.01, weight_decay=0.1)


def test_a_run_resumed_from_a_file_ends_with_the_same_bits():
    straight, optimizer = mixed()
    for step in range(10):
        draw_gradients(straight, step)
        optimizer.step()
        if step == 4:
            file = io.BytesIO()
            torch.save({"model": straight, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, optimizer = mixed(seed=1)
    with torch.no_grad():
        for ours, theirs in zip(resumed, saved["model"], strict=True):
            ours.copy_(theirs)
    optimizer.load_state_dict(saved["optimizer"])
    for step in range(5, 10):
        draw_gradients(resumed, step)
        optimizer.step()
    assert_equal(resumed, straight)


def test_a_gradient_that_is_not_finite_is_left_out_by_the_scaler():
    model, optimizer = mixed()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    reference, unscaled = mixed()
    for step in range(4):
        draw_gradients(model, step)
        draw_gradients(reference, step)
        for parameter in model:
            parameter.grad.mul_(float(scaler.scale(torch.ones(()))))
        if step == 2:
            model[0].grad[0, 0] = float("inf")
        else:
            unscaled.step()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 32
    assert_equal(model, reference)


def test_the_schedule_scales_both_kinds_of_groups():
    _, optimizer = mixed()
    scheduler = LRMultiplier(optimizer, LinearParamScheduler(1.0, 0.0), max_iter=4)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.015, 0.0075])


def test_training_lowers_a_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 1, 1))
    matrices = [model[0].weight]
    others = [parameter for parameter in model.parameters() if parameter is not matrices[0]]
    optimizer = MuonAdamW([{"params": matrices, "muon": True}, {"params": others}], lr=1e-2)
    image = torch.randn(4, 3, 16, 16)
    target = image[:, :1, 1:-1, 1:-1] * image[:, 1:2, 1:-1, 1:-1]

    def closure():
        optimizer.zero_grad()
        loss = (model(image) - target).square().mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(120)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MuonAdamW(parameters(), **settings)


def test_a_vector_is_no_matrix():
    with pytest.raises(ValueError, match=r"matrices or convolution kernels, got shapes \[\(7,\)\]"):
        MuonAdamW([{"params": parameters([(4, 4), (7,)]), "muon": True}])


def test_a_stack_of_matrices_is_each_of_them():
    matrices = torch.stack([torch.randn(24, 40, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])
    matrices[2] = 0
    together = orthogonalise(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalise(matrix), atol=0.02, rtol=0)  # bfloat16 sums in another order
    tall = orthogonalise(matrices.mT)
    torch.testing.assert_close(tall, together.mT, atol=0.02, rtol=0)


@needs_torch_muon
def test_parameters_of_one_shape_go_as_in_torch_s_muon():
    shapes = [(20, 30), (20, 30), (20, 30, 1, 1)]
    ours, theirs = parameters(shapes), parameters(shapes)
    matrices = [nn.Parameter(parameter.detach().reshape(20, 30)) for parameter in theirs]
    optimizer = MuonAdamW([{"params": ours, "muon": True}], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        draw_gradients(ours, step)
        for matrix, parameter in zip(matrices, ours, strict=True):
            matrix.grad = parameter.grad.reshape(20, 30).clone()
        optimizer.step()
        reference.step()
    for parameter, matrix in zip(ours, matrices, strict=True):
        torch.testing.assert_close(parameter.reshape(20, 30), matrix, atol=2e-3, rtol=0)
