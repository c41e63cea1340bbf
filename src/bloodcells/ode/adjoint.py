"""Gradients of the solution of a differential equation, from a second equation that runs backwards.

References
----------
.. [1] R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, "Neural Ordinary Differential Equations",
   NeurIPS 2018, arXiv:1806.07366, section 2, equations 4 and 5, algorithm 1
.. [2] P. Kidger, R. T. Q. Chen, T. Lyons, "'Hey, that's not an ODE': Faster ODE Adjoints via Seminorms",
   ICML 2021, arXiv:2009.09457
"""

from keras import ops

from bloodcells.ode.dormand_prince import integrate
from bloodcells.ode.vjp import vector_jacobian


def solve(rate, state, parameters, start, end, *, tolerance):
    r"""Solve dy/dt = f(t, y, parameters), with gradients by the adjoint method.

    Parameters
    ----------
    rate : callable
        ``rate(t, state, *parameters)``; may depend on no other tensor that is to be trained.
    state : tensor of float32, shape (N, ...)
        At `start`.
    parameters : sequence of tensor of float32
    start, end : float
        Times.
    tolerance : float
        As in `bloodcells.ode.dormand_prince.integrate`, on the way there and on the way back.

    Returns
    -------
    tensor of float32, shape (N, ...)
        The state at `end`, differentiable by `state` and `parameters`.

    Notes
    -----
    Of the way there only the end is kept. With a loss L, the adjoint :math:`a = \partial L / \partial y`
    obeys

    .. math:: \dot a = -a^\top \frac{\partial f}{\partial y}, \qquad
              \frac{\partial L}{\partial \theta} = \int a^\top \frac{\partial f}{\partial \theta} \, dt,

    and is integrated from `end` to `start` together with the state, which is needed again, and the gradient
    of the parameters ([1]_). That gradient feeds back into nothing, so it takes no part in choosing the steps
    ([2]_). As the state is not kept but solved for again, gradients are as exact as the tolerance, not more;
    and where the equation has kinks, as with rectified units, those of the parameters are less exact: their
    slopes jump where a unit switches, more than those which choose the steps. Single ones may then be off by
    some hundredths of the largest, at any tolerance (``benchmarks/ode.py`` measures it).
    """

    @ops.custom_gradient
    def run(state, *parameters):
        (final,), _, _ = integrate(
            lambda t, y: [rate(t, y, *parameters)], [state], start, end, tolerance=tolerance
        )

        def pull_back(*arguments, upstream=None):
            # PyTorch's upstream gradient comes by name, after the saved arguments.
            (adjoint,) = arguments if upstream is None else (upstream,)

            def augmented(t, y, a):
                value, (by_state, *by_parameters) = vector_jacobian(
                    lambda y, *parameters: rate(t, y, *parameters), (y, *parameters), a
                )
                return [value, -by_state, *(-product for product in by_parameters)]

            (_, gradient), integrals, _ = integrate(
                augmented, [final, adjoint], end, start, tolerance=tolerance
            )
            return (gradient, *integrals)

        return final, pull_back

    return run(state, *parameters)
