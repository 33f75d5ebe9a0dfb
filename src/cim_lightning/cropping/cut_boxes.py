"""Cutting of rotated boxes that exceed the view."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-6  # absolute value of a sine or cosine that is divided by


def cut_to_view(
    center: Float[Tensor, "b k 2"],
    size: Float[Tensor, "b k 2"],
    angle: Float[Tensor, "b k"],
    view_size: Float[Tensor, "2"],
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k 2"]]:
    """Cut the sides of boxes until their corners are in the view. Return the new centers and sizes.

    For each corner outside, one of its two sides moves inwards until the corner is on the edge of the view:
    the side that costs less area. Opposite corners come first, so that no direction is preferred. A box at
    45 degrees stays stretched; with both sides cut alike, it would become a square.

    Args:
        center: (x, y) in view pixels. Every side of a box must touch the view. This is so if the box is the
            smallest one around a region of the view.
        size: (width, height) along the axes of the box, in view pixels.
        angle: radians, clockwise on the screen.
        view_size: (width, height) of the view in pixels.
    """
    half = view_size / 2
    axes = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), dim=-1).unflatten(-1, (2, 2))
    # Lower and upper sides along the axes u and v of the box, from the center of the view.
    middle = ((center - half)[..., None, :] * axes).sum(dim=-1)
    (u0, v0), (u1, v1) = ((middle + sign * size / 2).unbind(dim=-1) for sign in (-1, 1))
    u0, v0 = _cut_corner(u0, v0, u1, v1, axes, half)
    u1, v1 = _cut_corner(u1, v1, u0, v0, axes, half)
    u0, v1 = _cut_corner(u0, v1, u1, v0, axes, half)
    u1, v0 = _cut_corner(u1, v0, u0, v1, axes, half)
    middle = torch.stack((u0 + u1, v0 + v1), dim=-1) / 2
    center = (middle[..., None] * axes).sum(dim=-2) + half
    return center, torch.stack((u1 - u0, v1 - v0), dim=-1)


def _cut_corner(
    u: Float[Tensor, "b k"],
    v: Float[Tensor, "b k"],
    opposite_u: Float[Tensor, "b k"],
    opposite_v: Float[Tensor, "b k"],
    axes: Float[Tensor, "b k 2 2"],
    half: Float[Tensor, "2"],
) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return the two sides of a corner, of which one is cut if the corner is outside."""
    u_axis, v_axis = axes.unbind(dim=-2)
    along_u, along_v = u[..., None] * u_axis, v[..., None] * v_axis
    outside = ((along_u + along_v).abs() > half).any(dim=-1)
    cut_u, cut_v = (
        _cut_side(u, opposite_u, u_axis, along_v, half),
        _cut_side(v, opposite_v, v_axis, along_u, half),
    )
    loss_u, loss_v = (cut_u - u).abs() * (opposite_v - v).abs(), (cut_v - v).abs() * (opposite_u - u).abs()
    cuts_u = loss_u <= loss_v
    return torch.where(outside & cuts_u & cut_u.isfinite(), cut_u, u), torch.where(
        outside & ~cuts_u, cut_v, v
    )


def _cut_side(
    side: Float[Tensor, "b k"],
    opposite: Float[Tensor, "b k"],
    axis: Float[Tensor, "b k 2"],
    offset: Float[Tensor, "b k 2"],
    half: Float[Tensor, "2"],
) -> Float[Tensor, "b k"]:
    """Return the value nearest to `side`, towards `opposite`, with |value * axis + offset| <= half.

    It is infinite if there is none before `opposite`.
    """
    axis = torch.where(axis.abs() < SMALLEST, SMALLEST, axis)
    bounds = torch.stack(((half - offset) / axis, (-half - offset) / axis))
    low, high = bounds.amin(dim=0).amax(dim=-1), bounds.amax(dim=0).amin(dim=-1)
    value = torch.where(opposite > side, low, high)
    possible = (low <= high) & ((value - side) * (opposite - value) > 0)
    return torch.where(possible, value, torch.inf)
