"""ODE block: a layer whose output is the solution of a differential equation that starts at its input.

References
----------
.. [1] D. Li et al., "Robust Blood Cell Image Segmentation Method Based on Neural Ordinary Differential
   Equations", Computational and Mathematical Methods in Medicine, 2021, 5590180, doi:10.1155/2021/5590180,
   section 3.1, equations 3 to 5, figure 4
.. [2] R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, "Neural Ordinary Differential Equations",
   NeurIPS 2018, arXiv:1806.07366
"""

import keras
import pandas as pd
from keras import layers, ops

from bloodcells.errors import UserError
from bloodcells.ode.adjoint import solve
from bloodcells.ode.dormand_prince import integrate
from bloodcells.ode.fixed_steps import METHODS, integrate_steps

SOLVERS = ("dormand_prince", *METHODS)
_VARIANCE = {1: 2.0, 2: 0.02}  # of a kernel, times its inputs: He's, and with a tenth of his deviation


@keras.saving.register_keras_serializable(package="bloodcells")
class ODEBlock(layers.Layer):
    """Feature maps h(0) to h(1), where dh/dt = f(h, t, θ) ([1]_, equation 3).

    Parameters
    ----------
    tolerance : float
        Of the adaptive solver, see `bloodcells.ode.dormand_prince.integrate`. May be changed after training.
    solver : {"dormand_prince", "euler", "rk4"}
        "dormand_prince" chooses its steps, and its gradients come by the adjoint method; the others take
        `n_steps` equal ones, and gradients go back through these.
    n_steps : int
        Of "euler" and "rk4".
    name, dtype, trainable
        As for every Keras layer. The state is float32 whatever the precision policy: half precision can't
        hold a tolerance.

    Notes
    -----
    f is that of a residual block: two 3 x 3 convolutions, zero-padded, as many filters as the input has
    channels, with a ReLU between them. Before each of them the time is added as one more channel, the same
    everywhere ([2]_; [1]_ says only that it is fed in); it is added here as the image that a convolution
    makes of that channel. There is no normalisation in f: its derivative by h would depend on the whole
    batch. Its last kernel begins small, and so the block close to the identity: a solver needs half as many
    evaluations there as with He's initialisation ([1]_ gives none), and they grow less while f is trained.

    Examples
    --------
    >>> import numpy as np
    >>> block = ODEBlock(solver="euler")  # one step: a residual block
    >>> h = np.ones((1, 4, 4, 2), "float32")
    >>> after = block(h)
    >>> bool(np.allclose(after, h + block.rate(0.0, h, *block.parameters)))
    True
    """

    def __init__(self, *, tolerance=1e-3, solver="dormand_prince", n_steps=1, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if solver not in SOLVERS:
            raise UserError(f"`solver` must be one of {', '.join(SOLVERS)}, got {solver!r}.")
        if not tolerance > 0:
            raise UserError(f"`tolerance` must be above 0, got {tolerance!r}.")
        if n_steps < 1:
            raise UserError(f"`n_steps` must be at least 1, got {n_steps!r}.")
        self.tolerance, self.solver, self.n_steps = tolerance, solver, n_steps

    def build(self, input_shape):
        n = input_shape[-1]
        self.parameters = []
        for i in (1, 2):
            start = keras.initializers.VarianceScaling(_VARIANCE[i], distribution="truncated_normal")
            shapes = {"kernel": (3, 3, n, n), "time_kernel": (3, 3, 1, n), "bias": (n,)}
            for what, shape in shapes.items():
                self.parameters.append(
                    self.add_weight(
                        shape=shape,
                        initializer="zeros" if what == "bias" else start.clone(),
                        name=f"{what}{i}",
                    )
                )

    @staticmethod
    def rate(t, h, kernel1, time1, bias1, kernel2, time2, bias2):
        """Return f(h, t, θ).

        Parameters
        ----------
        t : tensor of float, scalar
        h : tensor of float32, shape (N, rows, columns, channels)
        kernel1, time1, bias1, kernel2, time2, bias2 : tensor
            The parameters θ: of each convolution the kernel, its part for the time, and the bias.

        Returns
        -------
        tensor of float32, of the shape of `h`
        """
        ones = ops.ones_like(h[:1, :, :, :1])

        def convolve(x, kernel, time_kernel, bias):
            return _conv(x, kernel) + (t * _conv(ones, time_kernel) + bias)

        return convolve(ops.relu(convolve(h, kernel1, time1, bias1)), kernel2, time2, bias2)

    def call(self, h):
        if self.solver == "dormand_prince":
            # Copies, since TensorFlow's custom gradients take tensors only, and no variables.
            parameters = [ops.copy(parameter) for parameter in self.parameters]
            return solve(self.rate, h, parameters, 0.0, 1.0, tolerance=self.tolerance)
        return integrate_steps(self._rate, h, 0.0, 1.0, n_steps=self.n_steps, method=self.solver)

    def _rate(self, t, h):
        return self.rate(t, h, *self.parameters)

    def count_evaluations(self, h):
        """Return how often f is evaluated to solve from a batch of feature maps.

        Parameters
        ----------
        h : tensor of float32, shape (N, rows, columns, channels)

        Returns
        -------
        tensor of int32, scalar
        """
        if self.solver != "dormand_prince":
            return ops.convert_to_tensor(self.n_steps * {"euler": 1, "rk4": 4}[self.solver], dtype="int32")
        return integrate(lambda t, h: [self._rate(t, h)], [h], 0.0, 1.0, tolerance=self.tolerance)[2]

    def compute_output_spec(self, h):
        return keras.KerasTensor(h.shape, dtype="float32")  # without a loop over tensors that have no values

    def get_config(self):
        own = {"tolerance": self.tolerance, "solver": self.solver, "n_steps": self.n_steps}
        return super().get_config() | own


def count_evaluations(model, images):
    """Count how often the ODE blocks of a network evaluate their f for each image alone.

    Parameters
    ----------
    model : keras.Model
    images : ndarray, shape (N, rows, columns, channels)

    Returns
    -------
    pandas.DataFrame of int
        One row an image, one column a block, by its name, in the order of the network.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, ODEBlock)]
    if not blocks:
        return pd.DataFrame(index=range(len(images)))
    counts = [_Evaluations(block)(block.input) for block in blocks]
    # As a network of its own, so that the backend compiles it.
    found = keras.Model(model.input, counts).predict(images, batch_size=1, verbose=0)
    found = found if isinstance(found, list) else [found]
    return pd.DataFrame({block.name: n[:, 0] for block, n in zip(blocks, found, strict=True)})


class _Evaluations(layers.Layer):
    """The number of evaluations that a block needs for a batch, once for each of its images."""

    def __init__(self, block):
        super().__init__(trainable=False)
        self.count = block.count_evaluations  # not the block, whose weights would be this layer's, too

    def call(self, h):
        return ops.broadcast_to(self.count(h), (ops.shape(h)[0], 1))

    def compute_output_spec(self, h):
        return keras.KerasTensor((h.shape[0], 1), dtype="int32")


def set_tolerance(model, tolerance):
    """Give all ODE blocks of a trained network another tolerance.

    Parameters
    ----------
    model : keras.Model
        Changed in place; its weights stay.
    tolerance : float
        Above 0.
    """
    if not tolerance > 0:
        raise UserError(f"`tolerance` must be above 0, got {tolerance!r}.")
    for layer in model.layers:
        if isinstance(layer, ODEBlock):
            layer.tolerance = tolerance
    model.make_predict_function(force=True)  # the old one has the old tolerance built in


def _conv(x, kernel):
    return ops.conv(x, kernel, padding="same", data_format="channels_last")
