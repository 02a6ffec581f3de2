"""The weights of a network and of its clone, in pairs."""

import keras


def paired(one, other):
    """Returns [(weight of one, weight of other)], layer by layer, by the names of the layers.

    Args:
        one, other: a functional `keras.Model` and a clone of it, or two with the same layers.

    Raises:
        ValueError: a layer exists in one of the two only, or has other weights.
    """
    layers, others = ({layer.name: layer for layer in network.layers} for network in (one, other))
    for name in sorted(layers.keys() ^ others.keys()):
        raise _mismatch(name)
    pairs = []
    for name, layer in layers.items():
        if isinstance(layer, keras.Model) and isinstance(others[name], keras.Model):
            pairs += paired(layer, others[name])
            continue
        weights, other_weights = layer.weights, others[name].weights
        if [tuple(w.shape) for w in weights] != [tuple(w.shape) for w in other_weights]:
            raise _mismatch(name)
        pairs += zip(weights, other_weights, strict=True)
    return pairs


def _mismatch(name):
    return ValueError(
        f"network: the layer {name!r} differs from that of the averaged network (EMA). Add layers "
        "and call enable_lora before DiffusionModel(network), or build a new DiffusionModel."
    )
