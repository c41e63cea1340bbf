"""One training on several devices: each takes an equal share of every batch (Keras's data parallelism)."""

import contextlib
import functools

import keras

from bloodcells.errors import UserError


class EvenShares(keras.distribution.DataParallel):
    """Data parallelism that refuses a batch which the devices can't share evenly.

    Parameters
    ----------
    devices : list of str
        Such as ``["gpu:0", "gpu:1"]``.
    """

    def get_data_layout(self, data_shape):
        """Return how a batch is laid out over the devices; Keras asks this before a batch is sent.

        Parameters
        ----------
        data_shape : tuple of int
            The first is the number of images.

        Returns
        -------
        keras.distribution.TensorLayout

        Raises
        ------
        UserError
            If the number of images is no multiple of the number of devices.
        """
        _check_shares(data_shape[0], self.num_model_replicas)
        return super().get_data_layout(data_shape)


def check_batch_size(batch_size):
    """Refuse batches that can't be shared evenly, before threads begin to make them.

    Parameters
    ----------
    batch_size : int

    Raises
    ------
    UserError
        If it is no multiple of the number of devices.
    """
    _check_shares(batch_size, count_devices())


def _check_shares(n_images, n_devices):
    if n_images % n_devices:
        raise UserError(
            f"A batch of {n_images} images can't be shared evenly by {n_devices} devices; "
            f"give a `batch_size` that is a multiple of {n_devices}."
        )


def spread(n_devices):
    """Spread every training that follows in this process over several devices.

    Call it before the network is built. The loss of a step is the same as on one device, up to the order of
    floating-point sums. Evaluation and prediction take batches of any size and are not spread: every device
    does all of them.

    Parameters
    ----------
    n_devices : int
        At least 1, which undoes an earlier call.

    Raises
    ------
    UserError
        If there are fewer devices, or the backend isn't JAX: the pinned Keras has no data parallelism for
        PyTorch, and calls what it has for TensorFlow a prototype not to be used.
    """
    if n_devices < 1:
        raise UserError(f"`n_devices` must be at least 1, got {n_devices}.")
    if n_devices == 1:
        keras.distribution.set_distribution(None)
        return
    if keras.backend.backend() != "jax":
        raise UserError(
            "Training on several devices needs Keras on JAX (KERAS_BACKEND=jax), "
            f"got {keras.backend.backend()}."
        )
    devices = keras.distribution.list_devices()
    if len(devices) < n_devices:
        raise UserError(f"Expected {n_devices} devices, found {len(devices)}: {', '.join(devices)}.")
    keras.distribution.set_distribution(EvenShares(devices=devices[:n_devices]))
    _step_into_keras()


def count_devices():
    """Return the number of devices that trainings are spread over.

    Returns
    -------
    int
        1 unless `spread` was called.
    """
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_model_replicas


def _step_into_keras():
    """Let Keras evaluate and predict as if nothing were spread.

    The last batch of an evaluation is seldom full; Keras 3.15 lays it out like the first one, and JAX refuses
    it. `fit` validates by the method `evaluate`, so no callback and no argument could do this.
    """
    for name in ("evaluate", "predict"):
        method = getattr(keras.Model, name)
        if not getattr(method, "is_unspread", False):
            setattr(keras.Model, name, _unspread(method))


def _unspread(method):
    @functools.wraps(method)
    def call(*args, **kwargs):
        with _suspended():
            return method(*args, **kwargs)

    call.is_unspread = True
    return call


@contextlib.contextmanager
def _suspended():
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
