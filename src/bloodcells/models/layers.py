"""Blocks that several networks share."""

from keras import layers

from bloodcells.errors import UserError

LEAKY_SLOPE = 0.1


def activation(kind, name):
    """Return an activation layer by the name the chapters use.

    Parameters
    ----------
    kind : {"relu", "leaky_relu"}
        ``"leaky_relu"`` is max(0.1 x, x); nasser2025 (eq. 1) gives the slope only as a range, 0.01 to 0.1.
    name : str
        Name of the layer.

    Returns
    -------
    keras.layers.Layer
    """
    if kind == "relu":
        return layers.ReLU(name=name)
    if kind == "leaky_relu":
        return layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=name)
    raise UserError(f"`activation` must be 'relu' or 'leaky_relu', got {kind!r}.")


def conv_norm(x, filters, *, kernel_size=3, batch_norm, name):
    """Convolve with zero padding and stride 1, then normalise over the batch.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
    filters : int
        Number of output channels.
    kernel_size : int
        Side of the square kernel, pixels.
    batch_norm : bool
        Without it the convolution has a bias instead.
    name : str
        Prefix of the layers' names.

    Returns
    -------
    keras tensor, shape (N, rows, columns, filters)
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=not batch_norm,
        # He et al. (2015): keeps the variance of the signal through rectifiers.
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    # Batches of 16 small images are few: a shorter memory than Keras's 0.99 lets the running
    # statistics, which inference uses, follow the weights in runs of a few hundred steps.
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x) if batch_norm else x


def norm_first_conv(x, filters, *, name):
    """Normalise over the batch, then convolve 3 x 3 with zero padding and stride 1.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
    filters : int
        Number of output channels.
    name : str
        Prefix of the layers' names.

    Returns
    -------
    keras tensor, shape (N, rows, columns, filters)
    """
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return conv_norm(x, filters, batch_norm=False, name=name)


def pad_to_multiple(x, multiple):
    """Pad rows and columns with zeros to the next multiple, half on each side.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
        `rows` and `columns` are known.
    multiple : int
        2 to the number of poolings.

    Returns
    -------
    x : keras tensor
        The padded tensor.
    padding : tuple of tuple of int
        ((top, bottom), (left, right)), to crop the output with.
    """
    padding = tuple((extra // 2, extra - extra // 2) for extra in (-size % multiple for size in x.shape[1:3]))
    if any(sum(pair) for pair in padding):
        x = layers.ZeroPadding2D(padding, name="pad")(x)
    return x, padding


def crop(x, padding):
    """Undo `pad_to_multiple`.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
    padding : tuple of tuple of int
        ((top, bottom), (left, right)).

    Returns
    -------
    keras tensor
    """
    return layers.Cropping2D(padding, name="crop")(x) if any(sum(pair) for pair in padding) else x


def check_image_shape(input_shape, *, smallest):
    """Raise `UserError` unless the shape is (rows, columns, channels) and large enough to pool.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels).
    smallest : int
        Least number of rows and of columns, pixels.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise UserError(
            f"`input_shape` must be (rows, columns, channels) with at least {smallest} rows and columns, "
            f"got {tuple(input_shape)}."
        )


def sigmoid_heads(x, heads):
    """Add one 1 x 1 convolution with a sigmoid for each head, and stack their outputs.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
    heads : tuple of str
        Names of the layers.

    Returns
    -------
    keras tensor of float32, shape (N, rows, columns, len(heads))
    """
    # float32 whatever the precision policy: a sigmoid in half precision loses small probabilities.
    outputs = [layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name=head)(x) for head in heads]
    return (
        layers.Concatenate(dtype="float32", name="probability")(outputs) if len(outputs) > 1 else outputs[0]
    )


def softmax_head(x, n_classes):
    """Add a 1 x 1 convolution with a softmax over the classes.

    Parameters
    ----------
    x : keras tensor, shape (N, rows, columns, channels)
    n_classes : int

    Returns
    -------
    keras tensor of float32, shape (N, rows, columns, n_classes)
        From the layer "probability".
    """
    # float32 whatever the precision policy: a softmax in half precision loses small probabilities.
    return layers.Conv2D(n_classes, 1, activation="softmax", dtype="float32", name="probability")(x)
