"""The form of a convolution that XLA compiles well for a CPU."""

from jax import Array, lax

from dlbench.ops.padding import Pads
from dlbench.ops.standing_in import plain_convolutions


def canonical_conv(x: Array, kernel: Array, pads: Pads) -> Array:
    """Convolve ``[N, H, W, C_in]`` with ``[kh, kw, C_in, C_out]`` by XLA, stride 1.

    The barrier keeps XLA from folding a transpose or a reversal into the convolution, which would no longer be in the
    canonical form: 30 times slower.
    """
    x, kernel = lax.optimization_barrier((x, kernel))
    with plain_convolutions():
        return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
