"""The product of a vector with a function's Jacobian, which Keras has no operation for."""

import keras

from bloodcells.errors import UserError


def vector_jacobian(function, arguments, vector):
    """Evaluate a function, and multiply a vector from the left with its Jacobian.

    Parameters
    ----------
    function : callable
        Of tensors, to one tensor.
    arguments : sequence of tensor
    vector : tensor
        Of the shape of the function's value.

    Returns
    -------
    value : tensor
        Of the function.
    products : list of tensor
        One an argument, of its shape; zeros where the function does not depend on it.

    Raises
    ------
    UserError
        With a backend that has no gradients.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(function, arguments, vector)
    if backend == "jax":
        import jax

        value, pull_back = jax.vjp(function, *arguments)
        return value, list(pull_back(vector))
    if backend == "torch":
        return _torch(function, arguments, vector)
    raise UserError(f"Gradients need the backend tensorflow, jax or torch, got {backend!r}.")


def _tensorflow(function, arguments, vector):
    import tensorflow as tf

    arguments = [tf.convert_to_tensor(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return value, tape.gradient(
        value, arguments, output_gradients=vector, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def _torch(function, arguments, vector):
    import torch

    with torch.enable_grad():
        arguments = [argument.detach().requires_grad_() for argument in arguments]
        value = function(*arguments)
        products = torch.autograd.grad(value, arguments, vector, allow_unused=True, materialize_grads=True)
    return value.detach(), list(products)
