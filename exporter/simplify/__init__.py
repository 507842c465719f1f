"""Stage simplify: the ordered list of passes. Each is one file, one function `Graph -> None`, checked after it ran."""

from __future__ import annotations

from collections.abc import Callable

from exporter.ir.check import InvariantError, check
from exporter.ir.graph import Graph
from exporter.simplify.add_before_concat import add_before_concat
from exporter.simplify.affine_to_convolution import affine_to_convolution
from exporter.simplify.batch_norm import batch_norm_to_affine
from exporter.simplify.double_sums import double_sums
from exporter.simplify.duplicates import merge_duplicates
from exporter.simplify.fold_affine import fold_affine
from exporter.simplify.fold_constants import fold_constants
from exporter.simplify.fold_layer_norm import fold_layer_norms
from exporter.simplify.fuse_activations import fuse_activations
from exporter.simplify.identities import drop_identities
from exporter.simplify.join_tokens import join_tokens
from exporter.simplify.layer_norm import recognise_layer_norms
from exporter.simplify.matmul import drop_copies, transpose_right
from exporter.simplify.merge_branches import merge_branches
from exporter.simplify.merge_pads import merge_pads
from exporter.simplify.move_scalars import move_scalars
from exporter.simplify.nest_upsampling import nest_upsampling
from exporter.simplify.reshapes import merge_reshapes
from exporter.simplify.roots import divide_by_roots
from exporter.simplify.route_channels import route_channels
from exporter.simplify.shuffles import recognise_shuffles
from exporter.simplify.space_to_depth import recognise_space_to_depth
from exporter.simplify.split_linears import split_linears
from exporter.simplify.stack_sum import stack_sum_to_adds

Pass = Callable[[Graph], None]

PASSES: tuple[Pass, ...] = (
    fold_constants,  # first, so that the others see constants as constants
    recognise_shuffles,  # while they stand as the model wrote them
    stack_sum_to_adds,  # BiFPN's rank-5 sums become adds and scalars
    merge_duplicates,  # before BatchNorm folding gives shared convolutions weights of their own
    double_sums,  # what was computed twice and added
    recognise_space_to_depth,  # once slices that the branches share are one
    drop_copies,  # before LayerNorms are recognised: some expand their statistics
    recognise_layer_norms,  # while mean, square and root stand as written
    divide_by_roots,  # once those of LayerNorms are part of them
    transpose_right,  # before transposes merge with their neighbours
    merge_reshapes,  # brings the slices of q, k and v to the layer that they cut
    split_linears,  # before scalars move: one of q belongs to its layer
    add_before_concat,  # a class token and its position are one constant
    batch_norm_to_affine,  # every BatchNorm is a mul and an add per channel
    merge_pads,  # before folding: an explicit pad between affine and conv would block it
    move_scalars,  # bring scalars to the convolution that can absorb them, or to the smaller tensor
    fold_affine,  # mul and add per channel disappear into the convolution before or after them
    merge_branches,  # once each branch's BatchNorm is in its convolution, or alone on the identity path
    route_channels,  # once BatchNorms are in the weights that absorb a shuffle
    fold_layer_norms,  # weight and bias of a norm disappear into the layers behind it
    join_tokens,  # before each level's flattening merges with what is around it
    merge_reshapes,  # lowest rank, fewest transposes
    drop_identities,  # what the passes above left without effect
    nest_upsampling,  # when no BatchNorm stands between the terms of a sum any more
    affine_to_convolution,  # what is left of the BatchNorms, once nothing else can absorb it
    fuse_activations,  # last: an activation inside a convolution blocks every affine fold
)


def simplify(graph: Graph) -> Graph:
    """Run every pass in order on `graph`, in place; check the invariants and the outputs' shapes after each."""
    done: list[str] = []
    shapes = [value.shape for value in graph.outputs]
    for run in PASSES:
        try:
            run(graph)
            graph.prune()
            check(graph)
            if (now := [value.shape for value in graph.outputs]) != shapes:
                raise InvariantError(f"the outputs had the shapes {shapes}, now {now}")
        except InvariantError as error:
            raise InvariantError(f"pass {run.__name__} (after {', '.join(done) or 'capture'}): {error}") from None
        done.append(run.__name__)
    return graph
